//! How long calls take that take things away, on a server with many credentials against one with a single one. Nothing works
//! in the background, and after each call what it has changed is put back.

use crate::parts::{Bench, quantile, ratio};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What a deletion may take, compared with that of a server with one credential.
const MOST: f64 = 1.2;

#[derive(Clone, Copy)]
enum Call {
    Delete,
    Disconnect,
    RevokeAll,
}

/// Prints a line for each call; whether deleting takes as long whatever hangs on the server.
pub async fn run(small: bool) -> bool {
    let (many, turns) = if small { (1_000, 20) } else { (100_000, 200) };
    let bench = Bench::start().await;
    let ids = [
        bench.crowded("one", 1).await,
        bench.crowded("many", many).await,
    ];
    println!(
        "answers: a server with {many} credentials against one with 1, medians of {turns} calls by turns"
    );
    let mut good = true;
    for (name, call, turns) in [
        ("delete the server", Call::Delete, turns),
        ("disconnect a subject", Call::Disconnect, turns),
        ("revoke all", Call::RevokeAll, turns / 10),
    ] {
        let mut times = [Vec::new(), Vec::new()];
        for turn in 0..turns {
            for (id, times) in ids.iter().zip(&mut times) {
                let time = once(&bench, call, id).await;
                // The first one each connects and reads keys.
                if turn > 0 {
                    times.push(time);
                }
            }
        }
        let [one, all] = times.map(|times| quantile(&times, 0.5));
        let ratio = ratio(all, one);
        println!("  {name}: {ratio:.2} times as long ({all:.2?} against {one:.2?})");
        if matches!(call, Call::Delete) && ratio > MOST {
            println!("  which is more than {MOST}");
            good = small;
        }
    }
    good
}

/// Makes a call, and puts back what was there before it.
async fn once(bench: &Bench, call: Call, id: &str) -> Duration {
    let partition = format!("T#acme#S#{id}");
    let record = format!("S#{id}");
    let own = "C#user#ada#override";
    let server = bench.read("T#acme", &record).await.unwrap();
    let name = format!("NAME#{}", server["name"].as_s().unwrap());
    let number: u64 = server["number"].as_n().unwrap().parse().unwrap();
    let number = format!("NUM#{number:020}");
    let mut before = vec![server];
    for sk in [&name, &number] {
        before.push(bench.read("T#acme", sk).await.unwrap());
    }
    before.push(bench.read(&partition, own).await.unwrap());
    let path = format!("/mcp-{id}");
    let body = json!({"authSource": "auth-override", "subjectId": "ada", "subjectType": "user"});
    let begun = Instant::now();
    match call {
        Call::Delete => bench.call("DELETE", &path, &Value::Null).await,
        Call::Disconnect => bench.call("DELETE", &format!("{path}/auth"), &body).await,
        Call::RevokeAll => {
            let path = format!("{path}/auth/tokens");
            bench.call("DELETE", &path, &Value::Null).await
        }
    };
    let time = begun.elapsed();
    for item in &before {
        bench.put(item).await;
    }
    bench.remove(&partition, "TOMBSTONE").await;
    bench.remove(&partition, "C#user#ada#reason").await;
    for sweep in bench.sort_keys(&partition, "SWEEP#").await {
        bench.remove(&partition, &sweep).await;
    }
    time
}
