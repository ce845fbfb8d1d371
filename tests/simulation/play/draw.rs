//! What is drawn from a seed: how a history is made, and who does what.

use crate::internet::Manners;
use crate::world::{Rng, Weather};
use std::sync::OnceLock;

/// What a history is made of.
#[derive(Clone, Debug)]
pub struct Shape {
    pub manners: Manners,
    pub(super) weather: Weather,
    /// The most by which a clock is off, in microseconds.
    pub(super) skew: u64,
    /// Milliseconds in which all begins.
    pub(super) span: u64,
    pub(super) deeds: u64,
    pub(super) subjects: u64,
    pub(super) servers: u64,
    pub(super) processes: u64,
    /// Whether all subjects are connected at first.
    pub(super) connected: bool,
    /// In a thousand callers.
    pub(super) impatient: u64,
    /// Two or three at a time, on the same subject and server.
    pub(super) duels: bool,
    /// A newer version writes, too.
    pub(super) newer: bool,
}

/// What breaks the promise as long as it is not mended (docs/RELIABILITY.md): drawn only where `HAWSER_DRAW_ALL` is set.
const NOT_DRAWN: [&str; 0] = [];

/// A chance, or none if it is not drawn.
fn drawn(what: &str, chance: u64) -> u64 {
    static ALL: OnceLock<bool> = OnceLock::new();
    let all = *ALL.get_or_init(|| std::env::var_os("HAWSER_DRAW_ALL").is_some());
    if all || !NOT_DRAWN.contains(&what) {
        chance
    } else {
        0
    }
}

impl Shape {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let manners = Manners {
            rotates: rng.chance(650),
            detects_reuse: rng.chance(800),
            ends_families: rng.chance(800),
            ends_by_rotated: rng.chance(300),
            revokes: rng.chance(900),
            lifetime: rng.pick(&[None, Some(1), Some(1), Some(1), Some(30), Some(3600)]),
            registers: rng.chance(350),
            secrets: rng.chance(500),
        };
        let duels = rng.chance(400);
        let bad = |rng: &mut Rng, most: &[u64]| rng.pick(most);
        let weather = match rng.below(5) {
            0 => Weather::default(),
            1..4 if duels => Weather::default(),
            _ if duels => Weather {
                refused: bad(rng, &[0, 0, 20]),
                broken: drawn("lost answers", bad(rng, &[0, 10, 30])),
                deadly: bad(rng, &[0, 0, 10]),
                ..Weather::default()
            },
            1 => Weather {
                broken: drawn("lost answers", bad(rng, &[20, 80, 200])),
                ..Weather::default()
            },
            _ => Weather {
                refused: bad(rng, &[0, 10, 60]),
                unsent: bad(rng, &[0, 10, 40]),
                broken: drawn("lost answers", bad(rng, &[0, 10, 40])),
                silent: drawn("lost answers", bad(rng, &[0, 5, 20])),
                slow: bad(rng, &[0, 10, 40]),
                deadly: bad(rng, &[0, 2, 10]),
                frozen: drawn("freezes", bad(rng, &[0, 2, 8])),
                jumps: drawn("jumps", bad(rng, &[0, 0, 2])),
            },
        };
        if duels {
            return Self {
                manners,
                weather,
                skew: drawn("skew", rng.pick(&[0, 0, 0, 3_000_000])),
                span: 15,
                deeds: rng.between(3, 8),
                subjects: rng.pick(&[1, 1, 1, 2]),
                servers: rng.pick(&[1, 1, 1, 1, 2, 3]),
                processes: 3,
                connected: rng.chance(700),
                impatient: 0,
                duels,
                newer: rng.chance(60),
            };
        }
        Self {
            manners,
            weather,
            skew: drawn("skew", rng.pick(&[0, 0, 50_000, 3_000_000, 40_000_000])),
            span: rng.pick(&[15, 150, 2_000, 20_000, 120_000, 900_000]),
            deeds: rng.between(4, 26),
            subjects: rng.pick(&[1, 1, 1, 2, 3]),
            servers: rng.pick(&[1, 1, 1, 2, 3]),
            processes: rng.between(1, 4),
            connected: rng.chance(850),
            impatient: drawn("hang-ups", rng.pick(&[0, 0, 60, 250])),
            duels,
            newer: rng.chance(150),
        }
    }
}

/// Whether a seed's history consists of duels.
pub fn is_of_duels(seed: u64) -> bool {
    Shape::draw(&mut Rng::new(seed)).duels
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Consent,
    Call,
    /// Several at once.
    Calls,
    Status,
    Disconnect,
    /// A consent that has been to the issuer comes back.
    Return,
    Install,
    Uninstall,
    RevokeAll,
    Move,
    /// A change that voids nothing.
    Touch,
    Delete,
    /// A connection of Kambrium's.
    Connection,
    Offboard,
    Work,
    Repair,
    Kill,
    /// The issuer forgets its clients.
    Forget,
    /// A newer version writes a word into an item that this one does not know.
    Scramble,
}

impl Deed {
    pub(super) fn draw(rng: &mut Rng, shape: &Shape) -> Self {
        let newer = if shape.newer { 3 } else { 0 };
        let forgets = if shape.manners.registers { 1 } else { 0 };
        let anytime = [
            (28, Self::Consent),
            (24, Self::Call),
            (16, Self::Calls),
            (5, Self::Status),
            (14, Self::Disconnect),
            (4, Self::Install),
            (2, Self::Uninstall),
            (3, Self::RevokeAll),
            (3, Self::Move),
            (1, Self::Touch),
            (1, Self::Delete),
            (2, Self::Connection),
            (4, Self::Offboard),
            (10, Self::Work),
            (1, Self::Repair),
            (3, Self::Kill),
            (forgets, Self::Forget),
            (newer, Self::Scramble),
        ];
        let mut left = rng.below(anytime.iter().map(|(weight, _)| weight).sum());
        for (weight, deed) in anytime {
            if left < weight {
                return deed;
            }
            left -= weight;
        }
        Self::Work
    }

    /// Two that are in each other's way, and now and then a third.
    pub(super) fn draw_fight(rng: &mut Rng, shape: &Shape) -> Vec<Self> {
        // Each with how often; the same twice means against itself.
        const PAIRS: [(u64, Deed, Deed); 33] = [
            (6, Deed::Return, Deed::Return),
            (8, Deed::Return, Deed::Disconnect),
            (5, Deed::Return, Deed::Offboard),
            (5, Deed::Return, Deed::RevokeAll),
            (5, Deed::Return, Deed::Move),
            (5, Deed::Return, Deed::Delete),
            (5, Deed::Return, Deed::Call),
            (3, Deed::Return, Deed::Work),
            (2, Deed::Return, Deed::Touch),
            (6, Deed::Call, Deed::Disconnect),
            (3, Deed::Call, Deed::Offboard),
            (3, Deed::Call, Deed::RevokeAll),
            (3, Deed::Call, Deed::Delete),
            (3, Deed::Call, Deed::Move),
            (4, Deed::Calls, Deed::Call),
            (3, Deed::Disconnect, Deed::Disconnect),
            (3, Deed::Disconnect, Deed::Offboard),
            (3, Deed::Disconnect, Deed::RevokeAll),
            (3, Deed::Disconnect, Deed::Delete),
            (4, Deed::Work, Deed::Work),
            (4, Deed::Work, Deed::Call),
            (3, Deed::Work, Deed::Disconnect),
            (2, Deed::Work, Deed::Delete),
            (3, Deed::Offboard, Deed::Offboard),
            (2, Deed::Offboard, Deed::Install),
            (3, Deed::Offboard, Deed::Consent),
            (4, Deed::Consent, Deed::Consent),
            (3, Deed::Consent, Deed::Delete),
            (3, Deed::Consent, Deed::RevokeAll),
            (3, Deed::Install, Deed::Move),
            (3, Deed::Install, Deed::Delete),
            (2, Deed::Uninstall, Deed::Uninstall),
            (3, Deed::Uninstall, Deed::Install),
        ];
        let mut left = rng.below(PAIRS.iter().map(|(weight, ..)| weight).sum());
        let mut fight = Vec::new();
        for (weight, one, other) in PAIRS {
            if left < weight {
                fight = vec![one, other];
                break;
            }
            left -= weight;
        }
        if rng.chance(500) {
            fight.reverse();
        }
        let third = match rng.below(10) {
            0..5 => Self::Work,
            5..7 => Self::draw(rng, shape),
            _ => return fight,
        };
        fight.push(third);
        fight
    }
}
