//! Secrets of programs: of stores that apps share, and those of the app that are deleted while it is deployed.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Setup, programmed, set_up};
use crate::support::{client, soon};

const SOURCE: &str = "export default { async fetch(request, env) {
    const read = async () => { try { return await env.KEY.get(); } catch (error) { return `${error}`; } };
    return new Response(`${await read()} ${env.OWN}`);
} };";
const VALUE: &str = "marmalade-sandwich";

impl Setup {
    /// Makes the edge's key file.
    fn with_key(self) -> Self {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_berth-edge"));
        let made = command.args(["secret-key", "init", "--state"]).arg(self.site.state("")).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        self
    }

    /// Returns once the app answers with this, which follows the change of a secret.
    async fn answers(&self, app: &str, text: &str) {
        let asking = async { while !self.ask(app, "/").await.1.contains(text) {} };
        soon(text, asking).await;
    }

    /// A request to the admin API, and what it answers.
    async fn change(&self, method: &str, path: &str, body: &str) -> StatusCode {
        let asked = client::request(method, path, body.to_owned());
        client::whole(client::stream_admin(&self.edge.admin, asked).await).await.0
    }

    async fn read(&self, path: &str) -> Value {
        let (status, answer) = client::admin(&self.edge.admin, client::request("GET", path, "")).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }

    async fn deploy_with_secrets(&self, app: &str) -> Value {
        let modules = &[("index.js", SOURCE)];
        self.send(modules).await;
        let more = json!({"secrets": {"OWN": "OWN"}, "store_secrets": {"KEY": {"store": "shop", "name": "API_KEY"}}});
        let (status, answer) = self.put(&programmed(app, modules, more)).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }
}

#[tokio::test]
async fn apps_share_the_secrets_of_a_store() {
    let setup = set_up().await.with_key();
    let missing = setup.deploy_with_secrets("a").await;
    assert_eq!(missing["missing_store_secrets"], json!([{"store": "shop", "name": "API_KEY"}]));
    setup.deploy_with_secrets("b").await;
    let (_, text) = setup.ask("a", "/").await;
    assert!(text.starts_with("Error: the store `shop` has no secret `API_KEY`"), "{text}");

    let path = "/v1/secret-stores/shop/secrets/API_KEY";
    assert_eq!(setup.change("PUT", path, VALUE).await, StatusCode::NO_CONTENT);
    for app in ["a", "b"] {
        setup.answers(app, &format!("{VALUE} undefined")).await;
    }
    let list = setup.read("/v1/secret-stores/shop/secrets").await;
    assert_eq!(
        (&list["secrets"][0]["name"], &list["secrets"][0]["used_by"]),
        (&json!("API_KEY"), &json!(["a", "b"]))
    );
    assert_eq!(setup.read("/v1/secret-stores").await, json!({"stores": [{"name": "shop", "secrets": 1}]}));
    assert_eq!(setup.change("PUT", "/v1/secret-stores/a%2Fb/secrets/X", "x").await, StatusCode::BAD_REQUEST);
    assert_eq!(setup.change("PUT", path, "a\0b").await, StatusCode::UNPROCESSABLE_ENTITY);

    assert_eq!(setup.change("DELETE", path, "").await, StatusCode::NO_CONTENT);
    assert_eq!(setup.change("DELETE", path, "").await, StatusCode::NOT_FOUND);
    setup.answers("b", "has no secret `API_KEY`").await;
    assert_eq!(setup.read("/v1/secret-stores").await, json!({"stores": []}));
    let seen = format!("{list} {:?} {:?}", setup.log("a").await, setup.log("b").await);
    assert!(!seen.contains(VALUE), "{seen}");
}

#[tokio::test]
async fn a_secret_that_is_deleted_is_left_out_of_env_and_named_in_the_log() {
    let setup = set_up().await.with_key();
    let path = "/v1/apps/a/secrets/OWN";
    assert_eq!(setup.change("PUT", path, VALUE).await, StatusCode::NO_CONTENT);
    setup.deploy_with_secrets("a").await;
    assert!(setup.ask("a", "/").await.1.ends_with(VALUE));
    assert_eq!(setup.change("DELETE", path, "").await, StatusCode::NO_CONTENT);
    setup.answers("a", "undefined").await;
    let (status, text) = setup.ask("a", "/").await;
    assert!(status == StatusCode::OK && text.ends_with("undefined"), "{status} {text}");
    let log = setup.log("a").await;
    let told: Vec<_> = log.iter().filter(|line| line.contains("`OWN` is not in env")).collect();
    assert!(told.len() == 1 && told[0].contains("berth secret put OWN --app a"), "{log:?}");
    assert!(!log.concat().contains(VALUE));
}
