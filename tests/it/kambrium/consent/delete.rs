//! Deleting a connection ends its consents and tokens.

use super::{Scene, assert_bad_state, at};
use crate::harness::{of_operator, of_trail};
use crate::issuer::{Fault, Gate};

#[tokio::test]
async fn a_callback_after_the_delete_stores_nothing() {
    let scene = Scene::discovered().await;
    let (id, url) = scene.create().await;
    let back = scene.issuer.approve(&url).await;
    assert_eq!(scene.ada.delete(&at(id)).await.status, 200);
    assert_bad_state(&scene.visit(&back).await);
    scene.hawser.run_workers().await;
    assert_bad_state(&scene.visit(&back).await);
    assert_eq!(scene.issuer.count("POST", "/token"), 0);
    let items = scene.hawser.ground().items().await;
    let mut left: Vec<_> = items
        .iter()
        .filter(|item| !of_trail(item) && !of_operator(item))
        .map(|item| item["entity"].as_str().unwrap())
        .collect();
    left.sort_unstable();
    assert_eq!(left, ["counter", "receipt", "tenant-key"]);
    assert_eq!(scene.issuer.clients(), [""; 0]);
}

#[tokio::test]
async fn what_an_issuer_answers_after_the_delete_is_revoked() {
    let scene = Scene::discovered().await;
    let (id, url) = scene.create().await;
    let back = scene.issuer.approve(&url).await;
    let gate = Gate::closed();
    let held = Fault {
        hold: Some(gate.clone()),
        after: true,
        ..Fault::once("/token")
    };
    scene.issuer.fault(held);
    let late = async {
        gate.reached().await;
        assert_eq!(scene.ada.delete(&at(id)).await.status, 200);
        scene.hawser.run_workers().await;
        assert_eq!(
            scene.issuer.live_tokens().len(),
            2,
            "issued, and still under way to us"
        );
        gate.open();
    };
    let (page, ()) = tokio::join!(scene.visit(&back), late);
    assert_bad_state(&page);
    scene.hawser.run_workers().await;
    assert_eq!(scene.issuer.live_tokens(), [""; 0]);
    assert_eq!(scene.issuer.clients(), [""; 0]);
    assert_eq!(scene.ada.get(&at(id)).await.status, 404);
}

#[tokio::test]
async fn a_deletion_ends_tokens_and_client_at_the_issuer() {
    let scene = Scene::discovered().await;
    let (id, other) = (scene.connect().await, scene.connect().await);
    assert_eq!(scene.issuer.live_tokens().len(), 4);
    assert_eq!(
        scene.issuer.clients().len(),
        2,
        "each connection has its own"
    );
    assert_eq!(scene.ada.delete(&at(id)).await.status, 200);
    scene.hawser.run_workers().await;
    assert_eq!(scene.issuer.live_tokens().len(), 2);
    assert_eq!(scene.issuer.clients().len(), 1);
    assert_eq!(scene.states(other).await.0, "active");
    assert_eq!(scene.ada.delete(&at(other)).await.status, 200);
    scene.hawser.run_workers().await;
    assert_eq!(scene.issuer.live_tokens(), [""; 0]);
    assert_eq!(scene.issuer.clients(), [""; 0]);
}
