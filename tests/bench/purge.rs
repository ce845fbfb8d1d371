//! How fast a deleted server's partition is emptied, and how much memory that takes. Store and issuer are processes of their
//! own, so the memory is that of the worker.

use crate::parts::{Bench, Other, forget_peak, peak};
use hawser_core::operations::scheduler::process_due;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub async fn run(small: bool) {
    println!("purge: from the deletion to the empty partition");
    let sizes = if small { [10, 500] } else { [1_000, 100_000] };
    for overrides in sizes {
        let bench = Bench::start().await;
        let id = bench.crowded("doomed", overrides).await;
        purge(&bench, &id, overrides, "overrides").await;
    }
    let sizes = if small { [5, 50] } else { [200, 5_000] };
    for grants in sizes {
        let bench = Bench::start().await;
        let issuer = Other::start("issuer");
        let id = consented(&bench, &issuer.url, grants).await;
        purge(&bench, &id, grants, "grants, each revoked at its issuer").await;
    }
}

async fn purge(bench: &Bench, id: &str, count: usize, what: &str) {
    let pid = std::process::id();
    bench
        .call("DELETE", &format!("/mcp-{id}"), &Value::Null)
        .await;
    forget_peak(pid);
    let before = peak(pid);
    let begun = Instant::now();
    let partition = format!("T#acme#S#{id}");
    let hour = tokio::time::Instant::now() + Duration::from_secs(3600);
    while process_due(&bench.app, hour).await.unwrap() {}
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    let more = peak(pid) - before;
    assert_eq!(bench.sort_keys(&partition, "").await, Vec::<String>::new());
    println!("  {count} {what}: {rate:.0} a second, {more:.1} MiB more memory than before");
}

/// A server with so many grants, by real consents.
async fn consented(bench: &Bench, issuer: &str, count: usize) -> String {
    let auth = json!({"type": "oauth2"});
    let id = bench
        .register("doomed", &format!("{issuer}/mcp"), auth)
        .await;
    let redirects = reqwest::redirect::Policy::none();
    let browser = reqwest::Client::builder().no_proxy().redirect(redirects);
    let browser = browser.build().unwrap();
    let header = |page: &reqwest::Response, name: &str| {
        let value = page.headers()[name].to_str().unwrap();
        value.split(';').next().unwrap().to_owned()
    };
    for i in 0..count {
        let path = format!("/mcp-{id}/authorize");
        let user = bench.user(&format!("subject-{i}"));
        let asked = bench.call_as(&user, "GET", &path, &Value::Null).await;
        let begun = asked["authorization_endpoint"].as_str().unwrap();
        let page = browser.get(begun).send().await.unwrap();
        let cookie = header(&page, "set-cookie");
        let page = page.text().await.unwrap();
        let field = |name: &str| {
            let (_, rest) = page
                .split_once(&format!("name=\"{name}\" value=\""))
                .unwrap();
            (name.to_owned(), rest.split('"').next().unwrap().to_owned())
        };
        let (start, _) = begun.split_once('?').unwrap();
        let pressed = browser.post(start).header("cookie", &cookie);
        let form = [field("session"), field("sign_in"), field("token")];
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let pressed = pressed
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        let begun = pressed.send().await.unwrap();
        let approved = browser
            .get(header(&begun, "location"))
            .send()
            .await
            .unwrap();
        let back = browser.get(header(&approved, "location"));
        let done = back.header("cookie", cookie).send().await.unwrap();
        assert_eq!(done.status(), 200);
    }
    id
}
