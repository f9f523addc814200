//! Files of apps over the admin API of a real edge with a real disk: what is acknowledged is there after a kill, what was cut
//! off leaves nothing, and what is not there is named.

use std::path::PathBuf;
use std::time::Duration;

use berth_common::image::{Algorithm, Digest};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::support::agent::Node;
use crate::support::app::App;
use crate::support::edge::{Edge, Site, certificates};
use crate::support::{client, image, soon};

struct Setup {
    site: Site,
    edge: Edge,
    /// Kept for its address.
    _agent: crate::support::agent::Agent,
}

async fn set_up() -> Setup {
    let app = App::start().await;
    let certificates = certificates();
    let node = Node::new("n1", app.address, certificates.path());
    let agent = node.start("127.0.0.1:0".parse().unwrap());
    let site = Site::new(certificates, agent.address);
    let edge = site.start().await;
    Setup { site, edge, _agent: agent }
}

impl Setup {
    async fn missing(&self, digests: &[Digest]) -> Vec<Digest> {
        let body = json!({"digests": digests}).to_string();
        let asked = client::request("POST", "/v1/files/missing", body);
        let (status, answer) = client::admin(&self.edge.admin, asked).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        serde_json::from_value(answer["missing"].clone()).unwrap()
    }

    async fn put(&self, digest: &str, bytes: &[u8]) -> (StatusCode, String) {
        let asked = client::request("PUT", &format!("/v1/files/{digest}"), bytes.to_vec());
        client::whole(client::stream_admin(&self.edge.admin, asked).await).await
    }

    /// Sends the head of an upload of this length, and this much of it.
    async fn send_part(&self, digest: &Digest, length: u64, part: &[u8]) -> UnixStream {
        let mut stream = UnixStream::connect(&self.edge.admin).await.unwrap();
        let head = format!("PUT /v1/files/{digest} HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(part).await.unwrap();
        stream
    }

    fn uploads(&self) -> PathBuf {
        self.site.state("files/uploads")
    }

    /// Returns once something of an upload is on the disk.
    async fn begun(&self) {
        let begun = async {
            let is_empty = |file: std::io::Result<std::fs::DirEntry>| {
                file.unwrap().metadata().map_or(true, |metadata| metadata.len() == 0)
            };
            while std::fs::read_dir(self.uploads()).unwrap().all(is_empty) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        soon("a part of a file", begun).await;
    }
}

#[tokio::test]
async fn files_are_sent_once_and_checked() {
    let setup = set_up().await;
    let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
    assert_eq!(setup.missing(&[one, two]).await, [one, two]);
    assert_eq!(setup.put(&one.to_string(), b"one").await, (StatusCode::NO_CONTENT, String::new()));
    assert_eq!(setup.put(&one.to_string(), b"one").await.0, StatusCode::NO_CONTENT);
    assert_eq!(setup.missing(&[one, two]).await, [two]);

    let (status, wrong) = setup.put(&two.to_string(), b"not two").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.contains(&two.to_string()) && wrong.contains("\"field\":\"digest\""), "{wrong}");
    let other = Digest::with(Algorithm::Sha512, b"two").to_string();
    assert_eq!(setup.put(&other, b"two").await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(setup.put("two", b"two").await.0, StatusCode::BAD_REQUEST);
    let body = json!({"digests": vec![two; 10_001]}).to_string();
    let asked = client::request("POST", "/v1/files/missing", body);
    let (status, answer) = client::admin(&setup.edge.admin, asked).await;
    assert_eq!(
        (status, &answer["errors"][0]["field"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("digests"))
    );
    assert_eq!(setup.missing(&[two]).await, [two]);
    assert_eq!(std::fs::read_dir(setup.uploads()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_file_that_is_too_large_is_refused_before_it_is_sent() {
    let setup = set_up().await;
    let mut stream = setup.send_part(&Digest::of(b"x"), (128 << 20) + 1, b"").await;
    let mut answer = [0; 12];
    let read = tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer);
    soon("a refusal", read).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn what_was_acknowledged_outlives_a_kill_and_what_was_cut_off_leaves_nothing() {
    let mut setup = set_up().await;
    let (whole, half) = (Digest::of(b"whole"), Digest::of(&[7; 500_000]));
    // The client goes in the middle.
    drop(setup.send_part(&half, 500_000, &[7; 200_000]).await);
    let gone = async {
        while std::fs::read_dir(setup.uploads()).unwrap().count() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("nothing that is left", gone).await;
    // The edge goes in the middle.
    assert_eq!(setup.put(&whole.to_string(), b"whole").await.0, StatusCode::NO_CONTENT);
    let stream = setup.send_part(&half, 500_000, &[7; 400_000]).await;
    setup.begun().await;
    let uploads = setup.uploads();
    setup.edge.kill().await;
    drop(stream);
    assert_eq!(std::fs::read_dir(&uploads).unwrap().count(), 1);
    setup.edge = setup.site.start().await;
    assert_eq!(std::fs::read_dir(&uploads).unwrap().count(), 0);
    assert_eq!(setup.missing(&[whole, half]).await, [half]);
    assert_eq!(std::fs::read(setup.site.state("files/blobs").join(whole.hex())).unwrap(), b"whole");
}

#[tokio::test]
async fn a_deployment_says_which_file_is_not_there_and_changes_nothing() {
    let setup = set_up().await;
    image::push(&setup.edge.admin).await;
    let (here, none) = (Digest::of(b"here"), Digest::of(b"none"));
    assert_eq!(setup.put(&here.to_string(), b"here").await.0, StatusCode::NO_CONTENT);
    let program = json!({"entry": "a", "compatibility_date": "2026-01-31", "modules": [
        {"name": "a", "digest": here, "map": none}, {"name": "b", "digest": none}]});
    let spec = json!({"name": "p", "classes": {}, "routes": [], "program": program}).to_string();
    let asked = client::request("PUT", "/v1/apps/p?allow_unplaceable=true", spec);
    let (status, answer) = client::admin(&setup.edge.admin, asked).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    let errors: Vec<&Value> = answer["errors"].as_array().unwrap().iter().collect();
    let fields: Vec<&str> = errors
        .iter()
        .filter(|error| error["message"].as_str().unwrap().contains(&none.to_string()))
        .map(|error| error["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, ["program.modules[0].map", "program.modules[1].digest"], "{answer}");
    assert_eq!(setup.edge.look("/v1/apps").await["apps"], json!([]));
}

/// The specification of an app of static files alone.
fn site(files: &[(&str, &[u8])]) -> Value {
    let files: Value =
        files.iter().map(|(path, bytes)| ((*path).to_owned(), json!(Digest::of(bytes)))).collect();
    json!({"name": "site", "classes": {}, "routes": [], "assets": {"files": files, "not_found": "page"}})
}

impl Setup {
    async fn deploy(&self, spec: &Value) -> (StatusCode, Value) {
        let path = format!("/v1/apps/{}", spec["name"].as_str().unwrap());
        client::admin(&self.edge.admin, client::request("PUT", &path, spec.to_string())).await
    }
}

#[tokio::test]
async fn static_files_travel_by_digest_and_outlive_a_kill() {
    let mut setup = set_up().await;
    let files: [(&str, &[u8]); 3] =
        [("/index.html", b"<p>hello"), ("/a b.css", b"a {}"), ("/404.html", b"nothing here")];
    let spec = site(&files);
    let (status, answer) = setup.deploy(&spec).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer["errors"].as_array().unwrap().len(), 3, "{answer}");
    assert_eq!(answer["errors"][0]["field"], "assets.files[\"/404.html\"]");
    for (_, bytes) in files {
        assert_eq!(setup.put(&Digest::of(bytes).to_string(), bytes).await.0, StatusCode::NO_CONTENT);
    }
    let (status, answer) = setup.deploy(&spec).await;
    assert_eq!((status, &answer["unchanged"]), (StatusCode::OK, &json!(false)), "{answer}");
    for round in 0..2 {
        let edge = setup.edge.address;
        assert_eq!(client::get(edge, "/").await, (StatusCode::OK, "<p>hello".to_owned()), "{round}");
        assert_eq!(client::get(edge, "/a%20b.css").await, (StatusCode::OK, "a {}".to_owned()));
        assert_eq!(client::get(edge, "/none").await, (StatusCode::NOT_FOUND, "nothing here".to_owned()));
        let again = setup.deploy(&spec).await.1;
        assert_eq!((&again["unchanged"], &again["version"]), (&json!(true), &json!(1)), "{again}");
        if round == 0 {
            setup.edge.kill().await;
            setup.edge = setup.site.start().await;
        }
    }
    let mut directory = spec.clone();
    directory["assets"] = json!({"directory": "/etc"});
    let (status, answer) = setup.deploy(&directory).await;
    assert_eq!(
        (status, &answer["errors"][0]["field"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("assets.directory"))
    );
}

#[tokio::test]
async fn versions_of_earlier_edges_keep_their_directory_of_static_files() {
    let setup = set_up().await;
    let Setup { site: place, edge, _agent } = setup;
    edge.kill().await;
    let public = place.state("assets/site-assets-0123456789abcdef");
    std::fs::create_dir_all(&public).unwrap();
    std::fs::write(public.join("index.html"), "<p>old").unwrap();
    {
        let store = berth_store::SledStore::open(&place.state("store")).unwrap();
        let mut old = site(&[]);
        old["assets"] = json!({"directory": public, "hosts": []});
        let history = berth_store::AppHistory::begin(serde_json::from_value(old).unwrap(), 1);
        berth_store::write(&store, berth_store::Write::App(history)).await.unwrap();
        store.close();
    }
    let edge = place.start().await;
    assert_eq!(client::get(edge.address, "/").await, (StatusCode::OK, "<p>old".to_owned()));
    assert_eq!(edge.look("/v1/apps/site").await["version"], 1);
}
