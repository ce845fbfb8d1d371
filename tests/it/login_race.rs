//! Fifty callers call with one login all the time; once the answer to its end has come, nothing that is sent from then on reaches the
//! server, whose own log decides.

use crate::harness::{Caller, Hawser};
use crate::login_endings::{WAYS, end, plain};
use crate::logins::only;
use crate::upstream::{MODERN, Upstream, register, send};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Callers at once.
const CALLERS: usize = 50;
/// How many logins are ended under them, unless `HAWSER_ROUNDS` says another number.
const ROUNDS: usize = 40;

/// How long the calls of one round may take, on a machine that has much else to do.
const LONG: Duration = Duration::from_secs(300);

/// What the callers of one round share.
struct Round {
    /// The end has been answered.
    over: AtomicBool,
    /// A permit for each call that the server has answered.
    served: Semaphore,
}

/// Calls until one call that began after the end has been refused.
async fn call_until_refused(round: Arc<Round>, caller: Caller, wiki: String) {
    loop {
        let late = round.over.load(Ordering::SeqCst);
        let body =
            json!({"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": {"late": late}});
        let answer = send(&caller, &wiki, &[MODERN], body).await;
        match answer.status {
            200 => round.served.add_permits(1),
            // Too many at once, or ended while it was on its way, which says nothing of what begins now.
            503 => continue,
            401 => {}
            _ => panic!("{answer:?}"),
        }
        if late {
            assert_eq!(answer.status, 401);
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_call_that_begins_after_the_end_reaches_the_server() {
    let rounds = std::env::var("HAWSER_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS, |text| text.parse().expect("HAWSER_ROUNDS"));
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let wiki = register(&hawser, "wiki", &upstream.url, json!({})).await;
    for nth in 0..rounds {
        let (how, _) = WAYS[nth % WAYS.len()];
        let tokens = plain(&hawser, "user:ada").await;
        let id = only(&tokens.caller(&hawser)).await;
        let round = Arc::new(Round {
            over: AtomicBool::new(false),
            served: Semaphore::new(0),
        });
        let caller = || call_until_refused(round.clone(), tokens.caller(&hawser), wiki.clone());
        let callers: Vec<_> = (0..CALLERS).map(|_| tokio::spawn(caller())).collect();
        // At another moment each time: while the first calls are on their way, or between two of each.
        let some = u32::try_from(nth % CALLERS + 1).unwrap();
        let served = timeout(LONG, round.served.acquire_many(some)).await;
        drop(served.expect("the server is not called").unwrap());
        assert_eq!(end(&hawser, how, &id, &tokens).await.status, 200, "{how}");
        round.over.store(true, Ordering::SeqCst);
        for caller in callers {
            caller.await.unwrap();
        }
    }
    let seen = upstream.seen().into_iter().map(|seen| seen.message());
    let (late, before): (Vec<_>, Vec<_>) = seen.partition(|one| one["params"]["late"] == true);
    assert_eq!(late, Vec::<Value>::new());
    assert!(
        before.len() >= rounds,
        "the server was called in each round"
    );
}
