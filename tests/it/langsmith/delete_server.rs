//! Deleting a server.

use super::{
    SERVERS, UNKNOWN, URL, ada, at, connection_path, create, create_plain, cut_is_after_the_last,
    id, is, is_empty_204, mcp_path, not_found,
};
use crate::harness::{Caller, Cut, Hawser};
use serde_json::{Value, json};

#[tokio::test]
async fn delete_answers_204_whether_the_server_was_there_or_not() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let target = create_plain(&ada, "search").await;
    let kept = create_plain(&ada, "kept").await;
    is_empty_204(&ada.delete_with(&at(&target), json!(["ignored"])).await);
    is(&ada.get(&at(&target)).await, not_found());
    is(&ada.patch(&at(&target), json!({})).await, not_found());
    is_empty_204(&ada.delete(&at(&target)).await);
    hawser.run_workers().await;
    is_empty_204(&ada.delete(&at(&target)).await);
    is_empty_204(&ada.delete(&at(UNKNOWN)).await);
    let left = ada.get(SERVERS).await.json();
    assert_eq!(left.as_array().unwrap().len(), 1);
    assert_eq!(id(&left[0]), kept);
}

#[tokio::test]
async fn parallel_deletes_all_answer_204() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let path = at(&create_plain(&ada, "search").await);
    let (a, b, c) = tokio::join!(ada.delete(&path), ada.delete(&path), ada.delete(&path));
    for answer in [a, b, c] {
        is_empty_204(&answer);
    }
    is(&ada.get(&path).await, not_found());
}

#[tokio::test]
async fn a_deleted_server_is_gone_from_every_contract_and_its_name_is_free() {
    let hawser = Hawser::start().await;
    let admin = hawser.admin("acme");
    let headers = json!([{"key": "A", "value": "s3cret"}]);
    let body = json!({"name": "by-langsmith", "url": URL, "headers": headers});
    let made = create(&admin, body).await;
    let elsewhere = mcp_path(&hawser, "by-langsmith").await;
    let connection = connection_path(&hawser, "by-langsmith").await;
    assert_eq!(admin.get(&elsewhere).await.status, 200);
    assert_eq!(admin.get(&connection).await.status, 200);

    is_empty_204(&admin.delete(&at(id(&made))).await);
    assert_eq!(admin.get(&elsewhere).await.status, 404);
    assert_eq!(admin.get(&connection).await.status, 404);
    assert_eq!(admin.get("/api/svc/v1/mcp").await.json()["data"], json!([]));

    let again = create(&admin, json!({"name": "by-langsmith", "url": URL})).await;
    assert_ne!(id(&again), id(&made));
    assert_eq!(again["headers"], json!([]));
    assert_ne!(mcp_path(&hawser, "by-langsmith").await, elsewhere);
    assert_ne!(connection_path(&hawser, "by-langsmith").await, connection);
    assert_eq!(admin.get(&elsewhere).await.status, 404);
    assert_eq!(admin.get(&connection).await.status, 404);
    hawser.run_workers().await;
    is(&admin.get(SERVERS).await, json!([again]));
}

#[tokio::test]
async fn a_delete_that_is_cut_off_has_happened_whole_or_not_at_all() {
    let hawser = Hawser::start().await;
    let ada = ada(&hawser);
    let target = at(&create_plain(&ada, "search").await);
    hawser.wire.arm(None);
    ada.delete(&target).await;
    let requests = hawser.wire.operations().len();
    for at_request in 0..requests {
        for cut in [Cut::Before(at_request), Cut::After(at_request)] {
            let target = at(&create_plain(&ada, "search").await);
            hawser.wire.arm(Some(cut));
            let broken = ada.delete(&target).await;
            assert_eq!(broken.status, 503, "{cut:?} {broken:?}");
            hawser.wire.arm(None);
            let gone = cut_is_after_the_last(cut, requests);
            let found = ada.get(&target).await;
            assert_eq!(found.status, if gone { 404 } else { 200 }, "{cut:?}");
            let taken = ada
                .post(SERVERS, json!({"name": "search", "url": URL}))
                .await;
            assert_eq!(taken.status, if gone { 201 } else { 409 }, "{cut:?}");
            is_empty_204(&ada.delete(&target).await);
            let left = find_all(&ada).await;
            assert_eq!(left.len(), usize::from(gone), "{cut:?}");
            for record in left {
                is_empty_204(&ada.delete(&at(id(&record))).await);
            }
        }
    }
}

async fn find_all(caller: &Caller) -> Vec<Value> {
    let listed = caller.get(SERVERS).await.json();
    listed.as_array().unwrap().clone()
}
