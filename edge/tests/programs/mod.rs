//! Programs of apps behind a real edge: deployed over its admin API, called over its listener, run in its child processes.

mod deploy;
mod objects;
mod secrets;
mod serve;
mod sockets;
mod trouble;

use std::collections::BTreeMap;

use berth_common::image::Digest;
use berth_common::spec::AppSpec;
use berth_store::fixtures;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::edge::{Edge, Site, certificates};
use crate::support::{client, soon};

/// An edge without nodes.
pub(crate) struct Setup {
    site: Site,
    edge: Edge,
}

/// What programs may reach besides public addresses.
const REACHED: [&str; 2] = ["--allow-hooks-to", "127.0.0.1/32"];

async fn set_up() -> Setup {
    // Nobody listens there, and nobody has to.
    let site = Site::new(certificates(), "127.0.0.1:9".parse().unwrap());
    let edge = site.start_with(&REACHED).await;
    Setup { site, edge }
}

/// An app whose program has these modules, the first of which is the entry; `more` are further fields of it.
fn programmed(name: &str, modules: &[(&str, &str)], more: Value) -> AppSpec {
    let names: Vec<String> = modules.iter().map(|(name, _)| format!("./{name}")).collect();
    let imports: BTreeMap<&String, Value> =
        names.iter().zip(modules).map(|(written, (name, _))| (written, json!({ "module": name }))).collect();
    let module = |(name, source): &(&str, &str)| json!({"name": name, "digest": Digest::of(source.as_bytes()).to_string(), "imports": imports});
    let mut program = json!({
        "entry": modules[0].0, "compatibility_date": "2026-01-31",
        "modules": modules.iter().map(module).collect::<Vec<_>>(),
        "routes": [{"hosts": [format!("{name}.example")], "path": "/*"}],
    });
    program.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut app = fixtures::app(name, &[]);
    app.classes.clear();
    app.program = Some(serde_json::from_value(program).unwrap());
    app
}

impl Setup {
    /// Sends the modules.
    async fn send(&self, modules: &[(&str, &str)]) {
        for (_, source) in modules {
            let path = format!("/v1/files/{}", Digest::of(source.as_bytes()));
            let asked = client::request("PUT", &path, (*source).to_owned());
            let sent = client::whole(client::stream_admin(&self.edge.admin, asked).await).await;
            assert_eq!(sent, (StatusCode::NO_CONTENT, String::new()));
        }
    }

    async fn put(&self, app: &AppSpec) -> (StatusCode, Value) {
        let path = format!("/v1/apps/{}", app.name);
        let asked = client::request("PUT", &path, serde_json::to_vec(app).unwrap());
        client::admin(&self.edge.admin, asked).await
    }

    async fn deploy(&self, name: &str, modules: &[(&str, &str)], more: Value) {
        self.send(modules).await;
        let (status, answer) = self.put(&programmed(name, modules, more)).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }

    /// Deploys an app of one module.
    async fn deploy_one(&self, name: &str, source: &str) {
        self.deploy(name, &[("index.js", source)], json!({})).await;
    }

    async fn ask(&self, app: &str, path: &str) -> (StatusCode, String) {
        self.send_to(app, "GET", path, "").await
    }

    async fn send_to(
        &self,
        app: &str,
        method: &str,
        path: &str,
        body: impl Into<Bytes>,
    ) -> (StatusCode, String) {
        client::whole(client::stream(self.edge.address, request(app, method, path, body)).await).await
    }

    /// The texts of the app's log.
    async fn log(&self, app: &str) -> Vec<String> {
        let asked = client::request("GET", &format!("/v1/apps/{app}/logs"), "");
        let (status, lines) = client::whole(client::stream_admin(&self.edge.admin, asked).await).await;
        assert_eq!(status, StatusCode::OK, "{lines}");
        let text = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            format!("{} {}", line["stream"].as_str().unwrap(), line["text"].as_str().unwrap())
        };
        lines.lines().filter(|line| !line.is_empty()).map(text).collect()
    }

    /// Returns the first line of the app's log that has this text, once there is one.
    async fn logged(&self, app: &str, text: &str) -> String {
        let found = async {
            loop {
                if let Some(line) = self.log(app).await.into_iter().find(|line| line.contains(text)) {
                    return line;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        soon(text, found).await
    }

    /// The processes of the edge's programs.
    fn processes(&self) -> Vec<i32> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.edge.pid())).unwrap();
        let children =
            tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
        children
            .flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
            .collect()
    }
}

fn request(app: &str, method: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let mut request = client::request(method, path, body);
    request.headers_mut().insert("host", format!("{app}.example").parse().unwrap());
    request
}
