//! What everybody was told.

/// A consent, as its subject sees it.
#[derive(Clone, Debug)]
pub struct Consent {
    pub subject: String,
    pub server: String,
    /// When its address was there.
    pub begun: Option<i64>,
    pub asked: i64,
    pub family: Option<usize>,
    /// Its id, once a browser has its cookie.
    pub session: Option<String>,
    /// When the page said so.
    pub connected: Option<i64>,
}

/// An override, as whoever installs it sees it.
#[derive(Clone, Debug)]
pub struct Install {
    pub subject: String,
    pub server: String,
    pub sent: i64,
    /// With a 2xx.
    pub installed: Option<i64>,
}

/// What was said to end something.
#[derive(Clone, Debug)]
pub struct End {
    pub what: &'static str,
    /// All of them if none is named.
    pub server: Option<String>,
    pub subject: Option<String>,
    /// `oauth` or `auth-override`; both if none is named.
    pub source: Option<&'static str>,
    pub sent: i64,
    /// With a 2xx.
    pub ended: Option<i64>,
    pub receipt: Option<String>,
}

impl End {
    pub fn covers(&self, server: &str, subject: &str, source: &str) -> bool {
        self.server.as_deref().is_none_or(|one| one == server)
            && self.subject.as_deref().is_none_or(|one| one == subject)
            && self.source.is_none_or(|one| one == source)
    }
}

/// A call, or a look at a status.
#[derive(Clone, Debug)]
pub struct Look {
    pub subject: String,
    pub server: String,
    pub sent: i64,
    pub status: Option<u16>,
    /// `oauth` or `auth-override`, where a status says that the subject is authenticated.
    pub method: Option<String>,
}

/// What everybody was told.
#[derive(Debug, Default)]
pub struct Log {
    pub consents: Vec<Consent>,
    pub installs: Vec<Install>,
    pub ends: Vec<End>,
    pub calls: Vec<Look>,
    pub looks: Vec<Look>,
    pub violations: Vec<String>,
}
