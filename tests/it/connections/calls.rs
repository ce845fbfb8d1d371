//! Calls through a connection (Kambrium 8, 11 and 15).

use super::{Scene, scoped, some_tools, tool_call};
use crate::harness::Answer;
use crate::upstream::{MODERN, Reply, SESSION, initialize, is_refused, message, send, soon, user};
use data_encoding::BASE64;
use hawser_core::domain::tool::id_of;
use serde_json::{Value, json};

#[track_caller]
fn is_not_offered(answer: &Answer, status: u16, name: &str, offered: &[&str]) {
    let suggestion = "Use one of available_tools, or ask the owner of the connection to enable it.";
    let data = json!({"tool_name": name, "available_tools": offered, "suggestion": suggestion});
    is_refused(answer, status, -32002, "Tool not available", data);
}

#[tokio::test]
async fn a_read_connection_calls_tools_that_only_read() {
    let scene = Scene::new().await;
    let id = scene
        .connect(json!({"access_type": "read"}))
        .await
        .to_string();
    let hawser = &scene.hawser;
    // Whoever it is, whatever else they may do.
    for (caller, status) in [
        (user(hawser, "bob"), 200),
        (hawser.admin("acme"), 200),
        // Kambrium's own credentials get its statuses.
        (scoped(hawser, "ada", "mcp.read"), 403),
    ] {
        let reached = async |name: &str| {
            let before = scene.upstream.count();
            let answer = send(&caller, &id, &[MODERN], tool_call(name)).await;
            let seen = scene.upstream.seen().split_off(before);
            (
                answer,
                seen.iter()
                    .any(|seen| seen.message()["method"] == "tools/call"),
            )
        };
        for name in ["look", "search"] {
            let (answer, reached) = reached(name).await;
            assert_eq!((answer.status, reached), (200, true), "{answer:?}");
        }
        for name in [
            "get_deals",
            "Zap",
            "nowhere",
            "LOOK",
            " look",
            "look\u{0}",
            "",
        ] {
            let (answer, reached) = reached(name).await;
            is_not_offered(&answer, status, name, &["search", "look"]);
            assert!(!reached);
        }
    }
    // What a server has just added is known when it is called.
    let mut more = some_tools();
    more.as_array_mut()
        .unwrap()
        .push(json!({"name": "new", "annotations": {"readOnlyHint": true}}));
    scene.upstream.has_tools(more);
    let bob = user(hawser, "bob");
    assert_eq!(
        send(&bob, &id, &[MODERN], tool_call("new")).await.status,
        200
    );
    // Of two tools of one name both must be offered.
    let mut twice = some_tools();
    twice
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "again", "annotations": {"readOnlyHint": true}}));
    twice.as_array_mut().unwrap().push(json!({"name": "again"}));
    scene.upstream.has_tools(twice);
    let answer = send(&bob, &id, &[MODERN], tool_call("again")).await;
    assert_eq!(answer.json()["error"]["code"], -32002, "{answer:?}");
}

#[tokio::test]
async fn a_scope_for_reading_calls_tools_that_only_read() {
    let scene = Scene::new().await;
    let id = scene.connect(json!({})).await.to_string();
    let reader = scoped(&scene.hawser, "ada", "mcp.read");
    let lacking = json!({"required_scope": "mcp.write"});
    for (name, allowed) in [
        ("look", true),
        ("get_deals", false),
        ("Zap", false),
        ("nowhere", false),
    ] {
        let answer = send(&reader, &id, &[MODERN], tool_call(name)).await;
        if allowed {
            assert_eq!(answer.status, 200, "{answer:?}");
        } else {
            is_refused(&answer, 403, -32000, "Permission denied", lacking.clone());
        }
    }
    // Its lists are whole: the connection offers all of them.
    let listed = send(&reader, &id, &[MODERN], message("tools/list")).await;
    assert_eq!(listed.json()["result"]["tools"], some_tools());
    for scope in ["mcp.write", "mcp.tools.execute"] {
        let caller = scoped(&scene.hawser, "ada", scope);
        for name in ["get_deals", "nowhere"] {
            let answer = send(&caller, &id, &[MODERN], tool_call(name)).await;
            assert_eq!(answer.status, 200, "the server itself says no: {answer:?}");
        }
    }
    // Where there is no list, nothing is known to read.
    scene.upstream.has_tools(json!("none"));
    let fresh = scene.connect(json!({})).await.to_string();
    let answer = send(&reader, &fresh, &[MODERN], tool_call("look")).await;
    let unreadable = "The MCP server does not list its tools as it should";
    is_refused(&answer, 502, -32603, unreadable, Value::Null);
}

#[tokio::test]
async fn no_spelling_of_a_call_gets_around_a_switch() {
    let scene = Scene::new().await;
    let off = json!({"access_type": "individual", "disabled_tools": [id_of("search")]});
    let id = scene.connect(off).await.to_string();
    let bob = user(&scene.hawser, "bob");
    let path = format!("/mcp/{id}");
    let call = |name: &str| tool_call(name).to_string();
    assert_eq!(
        send(&bob, &id, &[MODERN], tool_call("look")).await.status,
        200
    );
    let offered = ["get_deals", "Zap", "look"];
    let answer = send(&bob, &id, &[MODERN], tool_call("search")).await;
    is_not_offered(&answer, 200, "search", &offered);
    let before = scene.upstream.count();
    let in_params = |params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{params}}}"#)
    };
    for body in [
        format!("[{}]", call("search")),
        format!("[{},{}]", call("look"), call("search")),
        format!("[{}]", call("look")),
        format!("[{}]", message("tools/list")),
        format!("{}{}", call("look"), call("search")),
        format!("{}\n{}", call("look"), call("search")),
        in_params(r#"{"name":"se\u0061rch"}"#),
        in_params(r#"{"name":"look","name":"search"}"#),
        in_params(r#"{"name":"search","name":"look"}"#),
        in_params(r#"{"name":"look","n\u0061me":"search"}"#),
        in_params(r#"{"name":"look","Name":"search"}"#),
        in_params(r#"{"Name":"search"}"#),
        in_params(r#"["search"]"#),
        in_params(r#"{"name":["search"]}"#),
        in_params(r#"{"name":"look"},"params":{"name":"search"}"#),
        in_params(r#"{"name":"look"},"Params":{"name":"search"}"#),
        in_params(r#"{"name":"look"},"paramſ":{"name":"search"}"#),
        r#"{"id":7,"method":"ping","method":"tools/call","params":{"name":"search"}}"#.to_owned(),
        r#"{"id":7,"method":"ping","METHOD":"tools/call","params":{"name":"search"}}"#.to_owned(),
        r#"{"id":7,"method":"Tools/Call","params":{"name":"search"}}"#.to_owned(),
        r#"{"id":7,"method":"tools/call\u0000","params":{"name":"search"}}"#.to_owned(),
        r#"{"id":7,"method":"tasks/result","params":{"taskId":"x"}}"#.to_owned(),
        format!("\u{feff}{}", call("look")),
        call("look").replace("look", "Search"),
        call("look").replace("look", "search "),
        "x".to_owned(),
        String::new(),
    ] {
        for headers in [&[MODERN][..], &[]] {
            let answer = bob.send("POST", &path, headers, body.clone().into()).await;
            let status = if answer.json()["id"].is_null() {
                403
            } else {
                200
            };
            assert_eq!(answer.status, status, "{body} {answer:?}");
            assert_eq!(answer.json()["error"]["code"], -32002, "{body}");
        }
    }
    // UTF-16, which some servers take too.
    let wide: Vec<u8> = call("search")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_eq!(bob.send("POST", &path, &[MODERN], wide).await.status, 403);
    // A name that is not known made it look once more each time, and nothing else went out.
    let seen = scene.upstream.seen().split_off(before);
    assert!(
        seen.iter()
            .all(|seen| seen.message()["method"] == "tools/list")
    );
    // What is no call passes, byte for byte.
    for body in [
        r#"{ "jsonrpc" : "2.0", "id":7 , "method":"resources/read", "params":{"name":"search","name":"x"} }"#,
        r#"{"jsonrpc":"2.0","id":"s-1","result":{"content":{"name":"search"}}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#,
    ] {
        assert_eq!(
            bob.send("POST", &path, &[MODERN], body.into()).await.status,
            200
        );
        assert_eq!(scene.upstream.last().body, body.as_bytes());
    }
    // Without a list, what is switched off is known all the same; of the rest nothing is.
    let off = json!({"access_type": "individual", "disabled_tools": [id_of("search")], "api_key": "other"});
    let fresh = scene.connect(off).await.to_string();
    scene.upstream.answers(|_| Reply::new(401, vec![], ""));
    let answer = send(&bob, &fresh, &[MODERN], tool_call("search")).await;
    is_not_offered(&answer, 200, "search", &[]);
    let answer = send(&bob, &fresh, &[MODERN], tool_call("look")).await;
    assert_eq!(crate::upstream::told(&answer), None);
}

#[tokio::test]
async fn lists_leave_out_what_a_connection_does_not_offer() {
    let scene = Scene::new().await;
    let open = scene.connect(json!({})).await.to_string();
    let closed = scene
        .connect(json!({"access_type": "read"}))
        .await
        .to_string();
    let bob = user(&scene.hawser, "bob");
    let list = r#"{"jsonrpc" : "2.0","id":7,"result":{"_meta":{"x" : 1e400},"tools":[{"name":"Zap"},
        { "name" : "look","annotations":{"readOnlyHint":true} ,"x":[1,  2]},{"name":"broken","annotations":7},["look"],"look",
        {"name":"look","name":"Zap","annotations":{"readOnlyHint":true}},
        {"name":"both","annotations":{"readOnlyHint":true,"readOnlyHint":false}}],"nextCursor":"n","ttlMs":5}}"#;
    let reply = |kind: &'static str, body: &str| {
        Reply::new(
            200,
            vec![("content-type", kind.to_owned())],
            body.to_owned(),
        )
    };
    let asked = async |id: &str, reply: Reply| {
        scene.upstream.reply(reply);
        send(&bob, id, &[MODERN], message("tools/list")).await
    };
    let only = r#"{ "name" : "look","annotations":{"readOnlyHint":true} ,"x":[1,  2]}"#;
    let rest =
        format!(r#"{{"_meta":{{"x" : 1e400}},"tools":[{only}],"nextCursor":"n","ttlMs":5}}"#);
    let filtered = format!(r#"{{"jsonrpc":"2.0","id":7,"result":{rest}}}"#);
    let answer = asked(&closed, reply("application/json", list)).await;
    assert_eq!((answer.status, &answer.text), (200, &filtered));
    assert_eq!(
        asked(&open, reply("application/json", list)).await.text,
        list,
        "untouched"
    );
    // Under any type that is none of events, in a batch, and more than once.
    for kind in [
        "application/json; charset=utf-8",
        "text/plain",
        "application/octet-stream",
    ] {
        assert_eq!(asked(&closed, reply(kind, list)).await.text, filtered);
    }
    let batch = format!("[{list},{{\"method\":\"x\"}}]");
    let expected = format!("[{filtered},{{\"method\":\"x\"}}]");
    assert_eq!(
        asked(&closed, reply("application/json", &batch)).await.text,
        expected
    );
    let zap = r#"{"tools":[{"name":"Zap"}]}"#;
    let twice = format!(
        r#"{{"id":7,"result":{zap},"Result":{{"TOOLS":[{{"name":"Zap"}}],"tools":[{{"name":"Zap"}}]}}}}"#
    );
    let answer = asked(&closed, reply("application/json", &twice)).await;
    assert_eq!(
        answer.text,
        r#"{"id":7,"result":{"tools":[]},"Result":{"TOOLS":[],"tools":[]}}"#
    );
    // What cannot be read is not passed on; what is no list is.
    for body in [
        "<html>Zap</html>".to_owned(),
        format!("\u{feff}{list}"),
        format!("{list}{list}"),
        format!("data: {list}\n\n"),
        list.replace("\"nextCursor\"", "\"\\ud800\""),
        format!("{{\"result\":{{\"tools\":[{}]}}}}", "[".repeat(200)),
        " ".repeat((4 << 20) + 1),
    ] {
        let answer = asked(&closed, reply("application/json", &body)).await;
        assert_eq!(answer.status, 502, "{body:.50} {answer:?}");
        assert!(!answer.text.contains("Zap"));
    }
    for (status, body) in [
        (200, "null"),
        (200, r#"{"id":7,"error":{"code":1,"message":"Zap"}}"#),
        (202, ""),
        (400, "<p>"),
        (500, ""),
    ] {
        let headers = vec![("content-type", "application/json".to_owned())];
        let answer = asked(&closed, Reply::new(status, headers, body)).await;
        assert_eq!((answer.status, answer.text.as_str()), (status, body));
    }
    let headers = vec![("content-type", "application/json".to_owned())];
    let answer = asked(&closed, Reply::new(404, headers, list)).await;
    assert_eq!((answer.status, &answer.text), (404, &filtered));
    // Tools that are switched off one by one.
    let off = json!({"access_type": "individual", "disabled_tools": [id_of("look")]});
    let some = scene.connect(off).await.to_string();
    let answer = asked(&some, reply("application/json", list)).await;
    let both = r#"{"name":"Zap"},{"name":"both","annotations":{"readOnlyHint":true,"readOnlyHint":false}}"#;
    assert_eq!(answer.text, filtered.replace(only, both));
}

#[tokio::test]
async fn lists_in_event_streams_leave_it_out_too_wherever_they_come() {
    let scene = Scene::new().await;
    let open = scene.connect(json!({})).await.to_string();
    let closed = scene
        .connect(json!({"access_type": "read"}))
        .await
        .to_string();
    let bob = user(&scene.hawser, "bob");
    let list = json!({"jsonrpc": "2.0", "id": 7, "result": {"tools": some_tools()}}).to_string();
    let mut offered = some_tools();
    offered
        .as_array_mut()
        .unwrap()
        .retain(|tool| tool["annotations"]["readOnlyHint"] == true);
    let shown = json!({"jsonrpc": "2.0", "id": 7, "result": {"tools": offered}}).to_string();
    let split = list.replacen(",\"result\"", ",\r\ndata: \"result\"", 1);
    let note = r#"data: { "jsonrpc":"2.0", "method":"notifications/message" }"#;
    let body = format!(
        ": hello\n\nid: 1\ndata:\n\n{note}\r\n\r\nid: 2\r\nevent: message\r\ndata: {split}\r\n\r\nretry: 5\ndata: [{list}]\n\n\
         data: \u{1}{list}\n\ndata: {list}"
    );
    let expected = format!(
        ": hello\n\nid: 1\ndata:\n\n{note}\r\n\r\nid: 2\nevent: message\ndata: {shown}\n\nretry: 5\ndata: [{shown}]\n\n\
         data: {shown}\n\n"
    );
    let events = |body: &str| {
        Reply::new(
            200,
            vec![("content-type", "Text/Event-Stream; x=y".to_owned())],
            body.to_owned(),
        )
    };
    // So that its tools are known.
    let known = send(&bob, &closed, &[MODERN], tool_call("look")).await;
    assert_eq!(known.status, 200);
    let session = initialize(&bob, &closed).await;
    let unfiltered = initialize(&bob, &open).await;
    // As an answer to anything, and on the stream that repeats what was missed.
    for (method, sent) in [
        ("POST", message("tools/list")),
        ("POST", tool_call("look")),
        ("POST", message("ping")),
        ("GET", Value::Null),
    ] {
        for (id, session, expected) in [(&closed, &session, &expected), (&open, &unfiltered, &body)]
        {
            scene.upstream.reply(events(&body));
            let headers = [(SESSION, session.as_str()), ("last-event-id", "1")];
            let answer = bob
                .send(
                    method,
                    &format!("/mcp/{id}"),
                    &headers,
                    sent.to_string().into(),
                )
                .await;
            assert_eq!(
                (answer.status, &answer.text),
                (200, expected),
                "{method} {sent}"
            );
        }
    }
    // An event goes on as soon as it is there.
    let (reply, pieces) = Reply::stream();
    scene.upstream.reply(reply);
    let asking = async || {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = http.post(format!("{}/mcp/{closed}", scene.hawser.url));
        for (name, value) in &bob.headers {
            request = request.header(*name, value);
        }
        let request = request.body(message("tools/list").to_string());
        soon(request.send()).await.unwrap()
    };
    let mut answer = asking().await;
    pieces.send("data: {\"method\":");
    pieces.send("\"x\"}\n\ndata: {\"res");
    let piece = soon(answer.chunk()).await.unwrap().unwrap();
    assert_eq!(piece, "data: {\"method\":\"x\"}\n\n");
    pieces.send("ult\":{\"tools\":[{\"name\":\"Zap\"}]}}\r\n\r\n");
    let piece = soon(answer.chunk()).await.unwrap().unwrap();
    assert_eq!(piece, "data: {\"result\":{\"tools\":[]}}\n\n");
    drop(pieces);
    assert_eq!(soon(answer.chunk()).await.unwrap(), None);
    // One that is too long to be looked into ends the stream.
    let long = format!("data: {{}}\n\ndata: {}", "x".repeat(4 << 20));
    scene.upstream.reply(events(&long));
    assert!(soon(asking().await.text()).await.is_err());
}

#[tokio::test]
async fn a_body_is_passed_on_in_no_other_reading_than_ours() {
    let scene = Scene::new().await;
    let id = scene.connect(json!({"access_type": "read"})).await;
    let (id, bob) = (id.to_string(), user(&scene.hawser, "bob"));
    for kinds in [
        vec![],
        vec![("content-type", "application/json; charset=utf-7")],
        vec![
            ("content-type", "text/plain"),
            ("content-type", "application/json; charset=utf-16"),
        ],
    ] {
        let headers = [&[MODERN][..], &kinds].concat();
        let answer = send(&bob, &id, &headers, tool_call("look")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let kind = scene
            .upstream
            .last()
            .header("content-type")
            .map(str::to_owned);
        assert_eq!(kind.as_deref(), Some("application/json"));
    }
    let encoded = |name: &str| format!("=?base64?{}?=", BASE64.encode(name.as_bytes()));
    for (method, name, code) in [
        ("tools/call", "look".to_owned(), 0),
        ("tools/call", encoded("look"), 0),
        ("tools/call", "Zap".to_owned(), -32002),
        ("tools/call", encoded("Zap"), -32002),
        ("tools/list", "look".to_owned(), -32002),
    ] {
        let headers = [MODERN, ("mcp-method", method), ("mcp-name", &name)];
        let before = scene.upstream.count();
        let answer = send(&bob, &id, &headers, tool_call("look")).await;
        let refused = answer.json()["error"]["code"].as_i64().unwrap_or_default();
        assert_eq!(
            (answer.status, refused),
            (200, code),
            "{method} {name}: {answer:?}"
        );
        assert_eq!(scene.upstream.count() - before, usize::from(code == 0));
    }
}
