//! Hawser through its front door.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "tests"
)]

mod addresses;
mod allowed_issuers;
mod application_attacks;
mod application_sign_in;
mod audit_log;
mod aws_credentials;
mod bearer_keys;
mod bound_calls;
mod browsers;
mod budget;
mod client_tokens;
mod connecting;
mod connections;
mod consent_page;
mod content;
mod crash;
mod development_sign_in;
mod document;
mod dry_run;
mod ending;
mod gate;
mod gateway;
mod guarded_answers;
mod guards;
mod guards_in_code;
mod guards_of_writes;
mod harness;
mod hostile;
mod idempotency;
mod identity_provider;
mod index;
mod integrations;
mod integrity;
mod issuer;
mod issuer_answers;
mod issuers;
mod jwt_issuer;
mod kambrium;
mod langsmith;
mod leaks;
mod linearizable;
mod login_attacks;
mod login_crashes;
mod login_endings;
mod login_race;
mod login_resources;
mod login_revocations;
mod login_tokens;
mod login_vouching;
mod logins;
mod loops;
mod lost_answers;
mod model;
mod offboarding;
mod order;
mod permissions;
mod policies;
mod process;
mod promise;
mod proxy;
mod receipts;
mod refresh;
mod registrations;
mod rest_api;
mod retry_after;
mod scene;
mod sign_in_secret;
mod sockets;
mod ssrf;
mod streams;
mod tools;
mod truefoundry;
mod unknown_paths;
mod unreadable;
mod unusable_tokens;
mod upstream;
mod upstreams;
mod wire;
mod workers;
