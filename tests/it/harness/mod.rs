//! What the tests drive: the real router over HTTP, the embedded store behind the real SDK, and a wire between the two
//! that counts requests and can be cut.

mod browser;
mod callers;
mod document;
mod grants;
mod ground;
mod servers;
mod wire;

pub use browser::{Browser, Form, Page, posted};
pub use callers::{Answer, Caller};
pub use document::{Seen, check, document, hold, operations};
pub use ground::{Ground, items, of_operator, of_trail};
pub use servers::{Registered, per_user};
pub use wire::{Cut, Sent, Wire};

use hawser_core::App;
use hawser_core::domain::event::{Action, Event, Who};
use hawser_core::domain::id::TenantId;
use hawser_core::domain::job::Work;
use hawser_core::domain::time::Clock;
use hawser_core::operations::audit_log;
use hawser_core::operations::integrity::examine;
use hawser_core::operations::scheduler::process_due;
use hawser_core::state::config::Config;
use hawser_local::server;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Until when workers may begin something, where time does not matter.
pub fn ample() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// A running Hawser with a store of its own. Its workers rest until [`Hawser::run_workers`] is called.
pub struct Hawser {
    pub url: String,
    pub app: Arc<App>,
    pub wire: Wire,
    ground: Arc<Ground>,
    http: reqwest::Client,
    _stop: oneshot::Sender<()>,
}

impl Hawser {
    pub async fn start() -> Self {
        Self::on(Ground::new().await).await
    }

    /// With these integrations.
    pub async fn with_integrations(integrations: &Value) -> Self {
        Self::offering(integrations, |_| {}).await
    }

    /// With these integrations, whose operator has made these settings.
    pub async fn offering(integrations: &Value, set: impl FnOnce(&mut Config)) -> Self {
        let ground = Ground::new().await;
        ground.offer(integrations).await;
        Self::configured(ground, set).await
    }

    /// With the integrations that the local server has at first.
    pub async fn with_built_in_integrations() -> Self {
        let built_in: Value = serde_json::from_str(hawser_local::CATALOGUE).unwrap();
        Self::with_integrations(&built_in["integrations"]).await
    }

    /// A new process on ground that may have seen others.
    pub async fn on(ground: Arc<Ground>) -> Self {
        Self::on_with(ground, |_| {}, |_| {}).await
    }

    /// The same, whose operator has made these settings.
    pub async fn configured(ground: Arc<Ground>, set: impl FnOnce(&mut Config)) -> Self {
        Self::on_with(ground, set, |_| {}).await
    }

    /// One that something else is known to.
    pub async fn start_with(change: impl FnOnce(&mut App)) -> Self {
        Self::on_with(Ground::new().await, |_| {}, change).await
    }

    /// One whose clock stands still until [`Hawser::pass`] moves it.
    pub async fn start_by_hand() -> Self {
        Self::by_hand(Ground::new().await).await
    }

    /// The same on ground that may have seen others.
    pub async fn by_hand(ground: Arc<Ground>) -> Self {
        Self::on_with(ground, |_| {}, stopped).await
    }

    /// The same, whose operator has made these settings.
    pub async fn by_hand_configured(ground: Arc<Ground>, set: impl FnOnce(&mut Config)) -> Self {
        Self::on_with(ground, set, stopped).await
    }

    /// The same, and something else is known to it.
    pub async fn by_hand_changed(ground: Arc<Ground>, change: impl FnOnce(&mut App)) -> Self {
        let both = |app: &mut App| {
            stopped(app);
            change(app);
        };
        Self::on_with(ground, |_| {}, both).await
    }

    /// The same with these integrations.
    pub async fn by_hand_with_integrations(integrations: &Value) -> Self {
        let ground = Ground::new().await;
        ground.offer(integrations).await;
        Self::by_hand(ground).await
    }

    /// Moves a clock that stands still.
    pub fn pass(&self, seconds: i64) {
        let Clock::Manual(now) = &self.app.clock else {
            panic!("nobody moves the system's clock");
        };
        now.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }

    /// A new process on ground that may have seen others, with these settings and changes.
    pub async fn restarted(
        ground: Arc<Ground>,
        set: impl FnOnce(&mut Config),
        change: impl FnOnce(&mut App),
    ) -> Self {
        Self::on_with(ground, set, change).await
    }

    async fn on_with(
        ground: Arc<Ground>,
        set: impl FnOnce(&mut Config),
        change: impl FnOnce(&mut App),
    ) -> Self {
        let wire = Wire::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = ground.app(&wire, &url, set, change);
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(server::serve(app.clone(), listener, async {
            let _ = stopped.await;
        }));
        // The server closes connections that are silent for ten seconds. A request on one of them at that moment is lost.
        let http = reqwest::Client::builder().no_proxy();
        let http = http.pool_idle_timeout(Duration::from_secs(4));
        let http = http.build().unwrap();
        Self {
            url,
            app,
            wire,
            ground,
            http,
            _stop: stop,
        }
    }

    pub fn ground(&self) -> Arc<Ground> {
        self.ground.clone()
    }

    /// Chains every event there is.
    pub async fn chain(&self) {
        audit_log::chain_all(&self.app, ample()).await.unwrap();
    }

    /// Dies: what it had begun is cut off, and nothing of it is heard of again.
    pub async fn die(self) {
        self.app.tasks.finish(Duration::ZERO).await;
    }

    /// A first page of the work that is due.
    pub async fn due(&self) -> Vec<Work> {
        let page = self.app.table.due_work(self.app.now(), None).await;
        page.unwrap().0
    }

    /// Lets the workers finish everything that is due; then the integrity check must find nothing.
    pub async fn run_workers(&self) {
        while process_due(&self.app, ample()).await.unwrap() {}
        self.chain().await;
        let (app, now) = (&self.app, self.app.now());
        let report = examine(&app.table, Some(app), now, false).await.unwrap();
        assert!(report.is_sound(), "{report:?}");
    }

    /// Of what a test does to the table itself.
    pub fn event(&self, tenant: &TenantId, action: Action) -> Event {
        Event::new(self.app.now(), tenant, Who::Operator, action).unwrap()
    }
}

/// Stops the clock, until [`Hawser::pass`] moves it.
pub fn stopped(app: &mut App) {
    let now = Arc::new(AtomicI64::new(app.now().micros()));
    app.clock = Clock::Manual(now);
}

/// Seconds since the epoch.
pub fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64
}
