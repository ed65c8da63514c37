//! The REST client against small servers that answer as Rocket.Chat was seen to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::{HeaderMap as Headers, StatusCode as Status};
use axum::response::{IntoResponse as _, Redirect};
use axum::routing::{any, get, post};
use serde_json::json;

use super::*;

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn client(url: &str) -> Rest {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let rest = Rest::new(&RestOptions::new(url)).expect("a client");
    rest.set_auth("u1", "TOKEN").expect("plain characters");
    rest
}

const LIMITED: &str = "Error, too many requests. Please slow down. You must wait 0 seconds before trying this endpoint again. [error-too-many-requests]";

/// Answers 429 to the first `refusals` calls; counts all.
fn limited(refusals: usize) -> (Router, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let answer = move || {
        let refused = counter.fetch_add(1, Ordering::SeqCst) < refusals;
        async move {
            if refused {
                let body = json!({"success": false, "error": LIMITED});
                (Status::TOO_MANY_REQUESTS, axum::Json(body)).into_response()
            } else {
                axum::Json(json!({"success": true})).into_response()
            }
        }
    };
    (Router::new().route("/api/v1/chat.react", post(answer)), calls)
}

#[tokio::test]
async fn a_rate_limited_call_is_repeated_in_its_turn() {
    let (router, calls) = limited(2);
    let rest = client(&serve(router).await);
    assert_eq!(rest.react("m", ":eyes:", true).await, Ok(()));
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_call_that_is_always_rate_limited_fails_in_the_end() {
    let (router, calls) = limited(usize::MAX);
    let rest = client(&serve(router).await);
    let error = rest.react("m", ":eyes:", true).await.expect_err("refused");
    assert!(matches!(error, RestError::RateLimited { .. }), "{error}");
    assert_eq!(calls.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn the_token_is_not_carried_to_another_host() {
    let stolen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&stolen);
    let thief = serve(Router::new().fallback(any(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        async { axum::Json(json!({"_id": "u1"})) }
    })))
    .await;
    let to = format!("{thief}/api/v1/me");
    let url =
        serve(Router::new().route("/api/v1/me", get(move || async move { Redirect::temporary(&to) }))).await;
    let error = client(&url).me().await.expect_err("not followed");
    assert!(error.to_string().contains(&thief), "{error}");
    assert_eq!(stolen.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn every_call_carries_user_and_token_below_the_sub_path() {
    let me = |headers: Headers| async move {
        let header = |name: &str| headers[name].to_str().expect("text").to_owned();
        axum::Json(json!({"_id": header("x-user-id"), "username": header("x-auth-token"), "roles": ["bot"]}))
    };
    let url = serve(Router::new().route("/chat/api/v1/me", get(me))).await;
    let user = client(&format!("{url}/chat/")).me().await.expect("found below the sub-path");
    assert_eq!((user.id.as_str(), user.username.as_str()), ("u1", "TOKEN"));
}

#[tokio::test]
async fn somebody_elses_message_under_our_id_is_no_success() {
    let url = serve(
        Router::new()
            .route(
                "/api/v1/chat.sendMessage",
                post(|| async {
                    let error = "Cannot read property 'starred' of undefined";
                    (Status::BAD_REQUEST, axum::Json(json!({"success": false, "error": error})))
                }),
            )
            .route(
                "/api/v1/chat.getMessage",
                get(|| async {
                    axum::Json(
                        json!({"message": {"_id": "m", "rid": "r", "u": {"_id": "u2", "username": "x"}}}),
                    )
                }),
            ),
    )
    .await;
    let outgoing = Outgoing { id: "m".into(), rid: "r".into(), text: "hi".into(), ..Outgoing::default() };
    let error = client(&url).send_message(&outgoing).await.expect_err("not ours");
    assert!(matches!(error, RestError::Refused { status: 400, .. }), "{error}");
}

#[tokio::test]
async fn nobody_listening_is_unavailable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let error = client(&url).me().await.expect_err("nobody there");
    assert!(matches!(error, RestError::Unavailable { .. }) && error.is_transient(), "{error}");
}

#[test]
fn an_address_that_is_none_is_told_at_once() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    for url in ["", "chat.example.com", "ftp://chat.example.com", "http://"] {
        assert!(Rest::new(&RestOptions::new(url)).is_err(), "{url}");
    }
}

fn classified(status: u16, body: Value) -> Result<Answer, RestError> {
    let answer = match body {
        Value::Object(answer) => Some(answer),
        _ => None,
    };
    classify("x", StatusCode::from_u16(status).expect("a status"), answer, None, None)
}

#[test]
fn recorded_refusals_are_classified() {
    let refused = |status, body: Value| match classified(status, body) {
        Err(RestError::Refused { error_type, .. }) => error_type,
        other => panic!("{other:?}"),
    };
    let code = |text: &str| Some(text.to_owned());
    assert_eq!(
        refused(400, json!({"success": false, "error": "error-invalid-room"})),
        code("error-invalid-room")
    );
    assert_eq!(
        refused(400, json!({"success": false, "error": "[invalid-channel]", "errorType": "invalid-channel"})),
        code("invalid-channel")
    );
    assert_eq!(
        refused(400, json!({"success": false, "error": "Invalid emoji provided. [error-not-allowed]"})),
        code("error-not-allowed")
    );
    assert_eq!(refused(400, json!({"success": false})), None);
    assert_eq!(refused(400, json!({"success": false, "error": "Not enough permission"})), None);
    assert_eq!(refused(400, Value::Null), None);
    assert_eq!(refused(405, json!({"status": "error", "message": "API endpoint does not exist"})), None);
    assert_eq!(
        refused(401, json!({"status": "error", "error": "totp-required", "message": "TOTP Required"})),
        code("totp-required")
    );
    assert_eq!(
        refused(200, json!({"success": false, "error": "error-message-size-exceeded"})),
        code("error-message-size-exceeded")
    );
}

#[test]
fn recorded_failures_of_login_limit_and_server_are_classified() {
    let dead_token = json!({"status": "error", "message": "You must be logged in to do this."});
    assert!(matches!(classified(401, dead_token), Err(RestError::Unauthorized { .. })));
    let bad_login = json!({"status": "error", "error": 403, "message": "Incorrect password"});
    assert!(
        matches!(classified(401, bad_login), Err(RestError::Unauthorized { reason, .. }) if reason == "Incorrect password")
    );
    let limit = "Error, too many requests. Please slow down. You must wait 53 seconds before trying this endpoint again. [error-too-many-requests]";
    for status in [429, 400] {
        match classified(status, json!({"success": false, "error": limit})) {
            Err(RestError::RateLimited { retry_after, .. }) => {
                assert_eq!(retry_after, Duration::from_secs(53));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(classified(502, Value::Null), Err(RestError::Unavailable { .. })));
    assert!(matches!(classified(200, Value::Null), Err(RestError::Malformed { .. })));
    assert!(classified(200, json!({"status": "success", "data": {}})).is_ok());
}
