//! Authentication and authorization of registry clients.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::StatusCode;

use super::client::{Client, send};
use super::{push, set_up, token};
use crate::support::client as plain;
use crate::support::image::Image;

fn basic(password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("anybody:{password}")))
}

#[tokio::test]
async fn a_login_is_exchanged_for_a_bearer_that_ends_with_the_token() {
    let setup = set_up().await;
    let address = setup.edge.registry;
    let challenged = send(address, "GET", "/v2/", &[], "").await;
    let realm = "Bearer realm=\"http://registry.test:5000/v2/token\",service=\"berth\"";
    assert_eq!((challenged.status, challenged.header("www-authenticate")), (401, realm));
    assert_eq!(challenged.code(), "UNAUTHORIZED");

    let path = "/v2/token?service=berth&scope=repository:r:pull,push";
    let secret = token(&setup.edge, "deploy").await;
    let answer = send(address, "GET", path, &[("authorization", &basic(&secret))], "").await;
    let body = answer.json();
    assert_eq!((answer.status, body["expires_in"].as_u64()), (200, Some(300)));
    assert_eq!(body["token"], body["access_token"]);
    let bearer = Client { address, token: body["token"].as_str().unwrap().to_owned() };
    assert!(!bearer.token.contains(&secret));
    push(&bearer, "r", "v1", &Image::tiny()).await;

    let id = setup.edge.look("/v1/tokens").await["tokens"][1]["id"].as_str().unwrap().to_owned();
    let other = setup.edge.look("/v1/tokens").await["tokens"][0]["id"].as_str().unwrap().to_owned();
    for id in [id, other] {
        let revoke = plain::request("DELETE", &format!("/v1/tokens/{id}"), "");
        let revoked = plain::stream_admin(&setup.edge.admin, revoke).await;
        assert_eq!(revoked.response.status(), StatusCode::NO_CONTENT);
    }
    let refused = bearer.get("/v2/").await;
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").ends_with("error=\"invalid_token\""));
}

#[tokio::test]
async fn a_token_is_required_and_read_tokens_cannot_write() {
    let setup = set_up().await;
    let address = setup.edge.registry;
    push(&setup.client, "r", "v1", &Image::tiny()).await;
    for wrong in ["Basic !", "Basic", "Bearer x", "Digest y", &basic("berth_wrong"), &basic("")] {
        for path in ["/v2/", "/v2/token", "/v2/r/manifests/v1", "/v2/nothing", "/v1/apps", "/"] {
            let answer = send(address, "GET", path, &[("authorization", wrong)], "").await;
            assert_eq!(answer.status, 401, "{wrong} {path}");
        }
    }
    assert_eq!(
        send(address, "GET", "/v2/token", &[], "").await.header("www-authenticate"),
        "Basic realm=\"berth\""
    );
    assert_eq!(send(address, "POST", "/v2/token", &[], "").await.status, 405);

    let reader = token(&setup.edge, "read").await;
    let login = [("authorization", basic(&reader))];
    let login = login.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(send(address, "GET", "/v2/r/manifests/v1", &login, "").await.status, 200);
    for (method, path) in
        [("POST", "/v2/r/blobs/uploads/"), ("PUT", "/v2/r/manifests/v2"), ("DELETE", "/v2/r/manifests/v1")]
    {
        let answer = send(address, method, path, &login, "").await;
        assert_eq!((answer.status, answer.code()), (403, "DENIED".to_owned()), "{method}");
    }
    // The admin API is not served on this listener.
    assert_eq!(setup.client.get("/v1/apps").await.status, 404);
}
