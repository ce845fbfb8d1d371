//! Whether the API key of a connection serves (Kambrium 3).

use super::{Scene, at};
use crate::harness::{Cut, ample};
use crate::upstream::{MODERN, Reply, message, send, soon, user};
use hawser_core::operations::scheduler::process_due;
use serde_json::json;

#[tokio::test]
async fn an_api_key_is_tried_after_the_answer() {
    let scene = Scene::by_hand().await;
    for (reply, status) in [
        (None, "verified"),
        (Some(401), "failed"),
        (Some(403), "failed"),
    ] {
        let before = scene.upstream.count();
        let id = scene.connect(json!({})).await;
        assert_eq!(
            (scene.verified(id).await.as_str(), scene.upstream.count()),
            ("pending", before)
        );
        if let Some(reply) = reply {
            scene
                .upstream
                .reply(Reply::new(reply, vec![], "the server explains"));
        }
        scene.work().await;
        assert_eq!(scene.verified(id).await, status);
        assert_eq!(scene.upstream.count(), before + 1);
        assert_eq!(scene.upstream.last().header("x-key"), Some("Key k-4711"));
        // Nothing rests on it.
        let bob = user(&scene.hawser, "bob");
        let answer = send(&bob, &id.to_string(), &[MODERN], message("ping")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        scene.hawser.pass(3600);
        let before = scene.upstream.count();
        scene.hawser.run_workers().await;
        assert_eq!(
            (scene.verified(id).await.as_str(), scene.upstream.count()),
            (status, before)
        );
    }
    // A new key, and the same one once more.
    let id = scene.connect(json!({})).await;
    scene.work().await;
    for key in ["new", "new"] {
        scene.put(id, json!({"api_key": key})).await;
        assert_eq!(scene.verified(id).await, "pending");
        scene.upstream.reply(Reply::new(403, vec![], ""));
        scene.work().await;
        assert_eq!(scene.verified(id).await, "failed");
        assert_eq!(scene.upstream.last().header("x-key"), Some("Key new"));
    }
    // What is no change of the key changes nothing.
    let before = scene.upstream.count();
    scene
        .put(id, json!({"access_type": "read", "agent_enabled": false}))
        .await;
    scene.work().await;
    assert_eq!(
        (scene.verified(id).await.as_str(), scene.upstream.count()),
        ("failed", before)
    );
}

#[tokio::test]
async fn a_server_that_does_not_say_is_asked_five_times_more_within_ten_minutes() {
    let scene = Scene::by_hand().await;
    let id = scene.connect(json!({})).await;
    scene.upstream.answers(|_| Reply::new(503, vec![], ""));
    let mut tries = Vec::new();
    for second in 0..700 {
        let before = scene.upstream.count();
        scene.work().await;
        match scene.upstream.count() - before {
            0 => {}
            1 => tries.push(second),
            more => panic!("{more} at once"),
        }
        let status = if tries.len() < 6 { "pending" } else { "failed" };
        assert_eq!(scene.verified(id).await, status, "{second}");
        scene.hawser.pass(1);
    }
    assert_eq!(tries, [0, 5, 25, 85, 205, 445]);
    // Late workers give up in time, too.
    let id = scene.connect(json!({})).await;
    scene.work().await;
    scene.hawser.pass(600);
    scene.work().await;
    assert_eq!(scene.verified(id).await, "failed");
    // It may turn out well in between.
    let id = scene.connect(json!({})).await;
    scene.work().await;
    scene.hawser.pass(5);
    scene.upstream.reply(Reply::new(200, vec![], "<html>"));
    scene.work().await;
    scene.hawser.pass(20);
    let good = json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": []}}).to_string();
    scene.upstream.reply(Reply::new(
        200,
        vec![("content-type", "application/json".to_owned())],
        good,
    ));
    scene.work().await;
    assert_eq!(scene.verified(id).await, "verified");
    scene.hawser.run_workers().await;
}

#[tokio::test]
async fn what_is_found_of_a_former_key_is_not_stored() {
    let scene = Scene::by_hand().await;
    let id = scene.connect(json!({})).await;
    // While the first key is tried, it is replaced; then its connection is deleted.
    for change in ["replace", "delete"] {
        let (reply, events) = Reply::stream();
        let before = scene.upstream.count();
        scene.upstream.reply(reply);
        let app = scene.hawser.app.clone();
        let trying =
            tokio::spawn(async move { while process_due(&app, ample()).await.unwrap() {} });
        soon(async {
            while scene.upstream.count() == before {
                tokio::task::yield_now().await;
            }
        })
        .await;
        match change {
            "replace" => scene.put(id, json!({"api_key": "second"})).await,
            _ => assert_eq!(scene.owner.delete(&at(id)).await.status, 200),
        }
        let good = "data: {\"id\":1,\"result\":{\"tools\":[]}}\n\n";
        if change == "replace" {
            // So that the second key is found bad by the same worker.
            scene.upstream.reply(Reply::new(401, vec![], ""));
        }
        events.send(good);
        drop(events);
        trying.await.unwrap();
        if change == "replace" {
            assert_eq!(scene.verified(id).await, "failed");
            assert_eq!(scene.upstream.last().header("x-key"), Some("Key second"));
            scene.put(id, json!({"api_key": "third"})).await;
        }
    }
    scene.hawser.pass(3600);
    scene.hawser.run_workers().await;
    let items = scene.hawser.ground().items().await;
    let left = |what: &str| {
        items
            .iter()
            .any(|item| item["SK"].as_str().unwrap().starts_with(what))
    };
    assert!(!left("VERIFY#") && !left("TOOLS#") && !left("S#"));
}

#[tokio::test]
async fn the_key_itself_is_tried_and_siblings_that_replace_it_are_noticed() {
    let scene = Scene::by_hand().await;
    let admin = scene.hawser.admin("acme");
    let id = scene.connect(json!({})).await;
    let list = admin.get("/api/svc/v1/mcp").await.json();
    let mcp = list["data"][0]["id"].as_str().unwrap().to_owned();
    // An override of the owner's is not the key.
    let body = json!({"subjectId": "ada", "subjectType": "user", "authOverride": {"type": "header", "headerValue": "own"}});
    let installed = admin
        .put(&format!("/api/svc/v1/mcp/{mcp}/auth"), body)
        .await;
    assert_eq!(installed.status, 200, "{installed:?}");
    scene.work().await;
    assert_eq!(scene.upstream.last().header("x-key"), Some("Key k-4711"));
    assert_eq!(scene.verified(id).await, "verified");
    // A sibling contract puts another value in its place.
    let mut manifest = list["data"][0]["manifest"].clone();
    manifest["auth_data"]["headers"]["X-Key"] = json!("Key by a sibling");
    let put = admin
        .put("/api/svc/v1/mcp", json!({"manifest": manifest}))
        .await;
    assert_eq!(put.status, 200, "{put:?}");
    assert_eq!(scene.verified(id).await, "pending");
    scene.work().await;
    assert_eq!(
        scene.upstream.last().header("x-key"),
        Some("Key by a sibling")
    );
    assert_eq!(scene.verified(id).await, "verified");
    scene.hawser.run_workers().await;
}

#[tokio::test]
async fn a_try_that_is_cut_off_anywhere_is_made_again() {
    for at in 0.. {
        let scene = Scene::by_hand().await;
        let id = scene.connect(json!({})).await;
        let mut done = 0;
        for cut in [Cut::Before(at), Cut::After(at)] {
            scene.hawser.wire.arm(Some(cut));
            let _ = process_due(&scene.hawser.app, ample()).await;
            done = scene.hawser.wire.operations().len();
            scene.hawser.wire.arm(None);
            scene.hawser.pass(61);
        }
        scene.work().await;
        assert_eq!(scene.verified(id).await, "verified", "{at}");
        scene.hawser.run_workers().await;
        if done <= at {
            assert!(at > 4, "{at}");
            return;
        }
    }
}
