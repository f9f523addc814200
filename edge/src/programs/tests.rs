//! Tests of which programs are started anew when secrets change, and of the class that an alarm is called in.

use std::io;

use berth_common::image::Digest;
use berth_common::secret::Secret;
use berth_common::spec::StoredSecret;
use berth_script::message::{ScriptError, Variable};
use berth_store::SledStore;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tempfile::TempDir;

use super::*;
use crate::secrets::DEFAULT_NAME;

/// A world without anything in it.
struct Nothing;

impl Content for Nothing {
    fn read(&self, _: &Digest) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }
}

impl StaticFiles for Nothing {
    fn answer(&self, _: &str, _: http::Request<()>) -> BoxFuture<'static, http::Response<Body>> {
        std::future::pending().boxed()
    }
}

impl Containers for Nothing {
    fn of(
        &self,
        _: ObjectKey,
        _: Arc<ClassSpec>,
        _: ContainerChanges,
    ) -> BoxFuture<'static, Result<Contained, ScriptError>> {
        std::future::pending().boxed()
    }
}

struct Stage {
    directory: TempDir,
    store: Arc<dyn Store>,
    programs: Programs,
}

fn programs(store: &Arc<dyn Store>, secrets: Secrets) -> Programs {
    Programs::new(Dependencies {
        shards: 1,
        content: Arc::new(Nothing),
        secrets: Arc::new(secrets),
        allowed: Vec::new(),
        files: Arc::new(Nothing),
        containers: Arc::new(Nothing),
        store: Arc::clone(store),
        agenda: Arc::default(),
    })
}

impl Stage {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SledStore::open(&directory.path().join("store")).unwrap());
        let secrets = Secrets::with_new_key(Arc::clone(&store), directory.path());
        let programs = programs(&store, secrets);
        Self { directory, store, programs }
    }

    /// Two programs: `own` has a secret of its app, `shared` one of the store `s`; each is loaded.
    async fn deploy(&self) {
        let program = |secrets: serde_json::Value, stored: serde_json::Value| -> Program {
            serde_json::from_value(serde_json::json!({
                "entry": "index.js", "modules": [], "compatibility_date": "2026-01-31",
                "secrets": secrets, "store_secrets": stored,
            }))
            .unwrap()
        };
        let stored = StoredSecret { store: "s".parse().unwrap(), name: "S".parse().unwrap() };
        let own = program(serde_json::json!({ "A": "A" }), serde_json::json!({}));
        let shared = program(serde_json::json!({}), serde_json::json!({ "B": stored }));
        let (names, none) = (["own", "shared"].map(|app| app.parse().unwrap()), Classes::new());
        let both = names.iter().zip([&own, &shared]);
        self.programs.publish(both.map(|(app, program)| (app, Version(1), program, &none)));
        for app in &names {
            let current = self.current(app.as_str());
            current.code(&self.programs.sources, &self.programs.log(app)).await.unwrap();
        }
    }

    fn current(&self, app: &str) -> Arc<Current> {
        self.programs.current(&app.parse().unwrap()).unwrap()
    }

    /// Which of the two are not those that they were.
    fn again(&self, before: &[Arc<Current>; 2]) -> [bool; 2] {
        [0, 1].map(|n| !Arc::ptr_eq(&self.current(["own", "shared"][n]), &before[n]))
    }

    fn both(&self) -> [Arc<Current>; 2] {
        ["own", "shared"].map(|app| self.current(app))
    }

    async fn put(&self, holder: impl Into<berth_store::SecretHolder>, name: &str, value: &str) {
        let secrets = &self.programs.sources.secrets;
        secrets.put(holder, name.parse().unwrap(), Secret::new(value.to_owned())).await.unwrap();
        self.programs.secrets_changed(has_secrets).await;
    }
}

#[tokio::test]
async fn a_changed_secret_starts_those_anew_that_see_it() {
    let stage = Stage::new();
    let (own, other): (AppName, AppName) = ("own".parse().unwrap(), "other".parse().unwrap());
    let store: berth_common::ids::StoreName = "s".parse().unwrap();
    stage.put(&own, "A", "1").await;
    stage.deploy().await;
    let before = stage.both();
    stage.put(&other, "A", "2").await;
    stage.put(&own, "OTHER", "2").await;
    stage.put(&store, "OTHER", "2").await;
    stage.put(&own, "A", "1").await;
    assert_eq!(stage.again(&before), [false, false]);
    stage.put(&own, "A", "2").await;
    assert_eq!(stage.again(&before), [true, false]);
    stage.deploy().await;
    let before = stage.both();
    stage.put(&store, "S", "1").await;
    assert_eq!(stage.again(&before), [false, true]);
    // One that has not been read yet may be about to be read.
    let before = stage.both();
    stage.put(&store, "S", "2").await;
    assert_eq!(stage.again(&before), [false, true]);
}

#[tokio::test]
async fn a_secret_that_could_not_be_read_is_tried_again() {
    let mut stage = Stage::new();
    let store: berth_common::ids::StoreName = "s".parse().unwrap();
    stage.put(&"own".parse::<AppName>().unwrap(), "A", "1").await;
    stage.put(&store, "S", "1").await;
    // The next edge finds no key.
    let file = stage.directory.path().join(DEFAULT_NAME);
    let away = file.with_extension("away");
    std::fs::rename(&file, &away).unwrap();
    stage.programs = programs(&stage.store, Secrets::open(Arc::clone(&stage.store), file.clone()).unwrap());
    let program: Program = serde_json::from_value(serde_json::json!({
        "entry": "index.js", "modules": [], "compatibility_date": "2026-01-31",
        "store_secrets": { "B": { "store": "s", "name": "S" } },
    }))
    .unwrap();
    let (app, none) = ("shared".parse::<AppName>().unwrap(), Classes::new());
    stage.programs.publish([(&app, Version(1), &program, &none)].into_iter());
    let value = async |current: &Current| {
        let code = current.code(&stage.programs.sources, &stage.programs.log(&app)).await.unwrap();
        code.load.env.iter().find(|(name, _)| name == "B").unwrap().1.clone()
    };
    let before = stage.current("shared");
    assert!(matches!(value(&before).await, Variable::StoreSecret(Err(_))));
    stage.programs.secrets_changed(Current::lacks_secrets).await;
    assert!(Arc::ptr_eq(&before, &stage.current("shared")), "nothing has changed yet");
    std::fs::rename(&away, &file).unwrap();
    stage.programs.secrets_changed(Current::lacks_secrets).await;
    let now = stage.current("shared");
    assert_eq!(value(&now).await, Variable::StoreSecret(Ok("1".to_owned())));
    stage.programs.secrets_changed(Current::lacks_secrets).await;
    assert!(Arc::ptr_eq(&now, &stage.current("shared")));
}

#[test]
fn an_alarm_is_called_in_the_class_as_the_version_that_is_called_names_it() {
    let id = "0a".repeat(32);
    let key =
        ObjectKey { app: "a".parse().unwrap(), class: "Room".parse().unwrap(), name: id.parse().unwrap() };
    let alarm = Alarm { key, name: None, scheduled_ms: 1, retry: 0 };
    let lineages = |name: &str, first: &str| [(name.parse().unwrap(), first.parse().unwrap())].into();
    for name in ["Room", "Hall"] {
        assert_eq!(alarm.object(&lineages(name, "Room")).unwrap().class, name);
    }
    assert!(matches!(alarm.object(&lineages("Room", "Other")), Err(ProgramError::NoClass(_))));
}
