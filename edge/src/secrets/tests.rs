//! Tests of secrets with lost, changed and rotated keys, and of rotations that were interrupted at any point.

use std::fs;
use std::path::Path;

use berth_registry::remote::Login;
use berth_store::SledStore;
use tempfile::TempDir;

use super::*;

impl Secrets {
    /// The secrets of a store with a new key file in a directory.
    pub(crate) fn with_new_key(store: Arc<dyn Store>, directory: &Path) -> Self {
        let file = directory.join(DEFAULT_NAME);
        KeyFile::at(&file).init(directory).unwrap();
        Self::open(store, file).unwrap()
    }
}

/// An edge's directory, and its secrets.
struct Stage {
    directory: TempDir,
    store: Arc<SledStore>,
}

impl Stage {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(SledStore::open(&directory.path().join("store")).unwrap());
        Self { directory, store }
    }

    fn with_key() -> Self {
        let stage = Self::new();
        stage.file().init(stage.directory.path()).unwrap();
        stage
    }

    fn file(&self) -> KeyFile {
        KeyFile::at(self.directory.path().join(DEFAULT_NAME))
    }

    /// Opens them as the edge's next process does.
    fn open(&self) -> Secrets {
        let store = Arc::clone(&self.store) as Arc<dyn Store>;
        Secrets::open(store, self.file().path().to_owned()).unwrap()
    }
}

fn app() -> AppName {
    "a".parse().unwrap()
}

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

async fn put(secrets: &Secrets, key: &str, value: &str) -> Result<(), SecretError> {
    secrets.put(app(), name(key), Secret::new(value.to_owned())).await
}

fn read(secrets: &Secrets, key: &str) -> Result<String, String> {
    let read = secrets.get(app(), &name(key));
    read.map(|secret| secret.expose().to_owned()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_secret_is_put_replaced_listed_and_deleted() {
    let stage = Stage::with_key();
    let secrets = stage.open();
    let mut changes = secrets.changes();
    put(&secrets, "B", "one").await.unwrap();
    put(&secrets, "B", "two").await.unwrap();
    put(&secrets, "A", "").await.unwrap();
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    assert_eq!((read(&secrets, "B"), read(&secrets, "A")), (Ok("two".to_owned()), Ok(String::new())));
    let views = secrets.list(app()).unwrap();
    let shown: Vec<_> = views.iter().map(|view| (view.name.as_str(), view.version, view.readable)).collect();
    assert_eq!(shown, [("A", 1, true), ("B", 2, true)]);
    assert!(views[1].created_ms <= views[1].updated_ms);
    assert!(secrets.list("ab".parse::<AppName>().unwrap()).unwrap().is_empty());
    let names = [name("A"), name("C"), name("C")];
    assert_eq!(secrets.missing(&app(), names.into_iter()).unwrap(), [name("C")]);
    assert!(secrets.delete(app(), name("B")).await.unwrap());
    assert!(!secrets.delete(app(), name("B")).await.unwrap());
    assert!(changes.has_changed().unwrap());
    let error = read(&secrets, "B").unwrap_err();
    assert!(error.contains("`B`") && error.contains("berth secret put B --app a"), "{error}");
    assert_eq!(read(&stage.open(), "A"), Ok(String::new()));
}

#[tokio::test]
async fn invalid_values_and_too_many_secrets_are_refused() {
    let stage = Stage::with_key();
    let secrets = stage.open();
    put(&secrets, "A", &"x".repeat(MAX_SECRET_BYTES)).await.unwrap();
    for bad in ["a\0b", &"x".repeat(MAX_SECRET_BYTES + 1)] {
        assert!(matches!(put(&secrets, "A", bad).await, Err(SecretError::BadValue(_))));
    }
    for index in 1..MAX_SECRETS {
        put(&secrets, &format!("A{index}"), "x").await.unwrap();
    }
    assert!(matches!(put(&secrets, "ONE_MORE", "x").await, Err(SecretError::TooMany(_))));
    put(&secrets, "A", "y").await.unwrap();
    secrets.put("b".parse::<AppName>().unwrap(), name("A"), Secret::new("x".to_owned())).await.unwrap();
}

#[tokio::test]
async fn secrets_are_added_to_an_environment_of_bounded_size() {
    let stage = Stage::with_key();
    let secrets = stage.open();
    put(&secrets, "S", &"x".repeat(MAX_SECRET_BYTES)).await.unwrap();
    let bindings = |variables: &[&str]| -> Bindings {
        variables.iter().map(|variable| (variable.parse().unwrap(), name("S"))).collect()
    };
    let mut env = BTreeMap::from([("K".to_owned(), "v".to_owned())]);
    secrets.add_to(&mut env, &app(), &bindings(&["ONE", "TWO"])).unwrap();
    assert!(env.len() == 3 && env["TWO"].len() == MAX_SECRET_BYTES);
    let many = bindings(&["A", "B", "C", "D"]);
    assert!(matches!(secrets.add_to(&mut env, &app(), &many), Err(SecretError::TooLarge(_))));
    let missing = [("A".parse().unwrap(), name("T"))].into();
    assert!(matches!(secrets.add_to(&mut env, &app(), &missing), Err(SecretError::Missing { .. })));
}

#[tokio::test]
async fn without_a_key_file_no_secret_can_be_set() {
    let stage = Stage::new();
    let secrets = stage.open();
    let error = put(&secrets, "A", "x").await.unwrap_err().to_string();
    assert!(error.contains("berth secret init"), "{error}");
    assert!(secrets.list(app()).unwrap().is_empty());
    stage.file().init(stage.directory.path()).unwrap();
    put(&secrets, "A", "x").await.unwrap();
    assert_eq!(read(&secrets, "A"), Ok("x".to_owned()));
}

#[tokio::test]
async fn a_lost_or_wrong_key_file_is_reported_and_the_right_one_works_again() {
    let stage = Stage::with_key();
    put(&stage.open(), "A", "x").await.unwrap();
    let kept = fs::read(stage.file().path()).unwrap();
    fs::remove_file(stage.file().path()).unwrap();
    let secrets = stage.open();
    assert!(!secrets.list(app()).unwrap()[0].readable);
    assert!(read(&secrets, "A").unwrap_err().contains("secret.key"));

    stage.file().init(stage.directory.path()).unwrap();
    let error = read(&secrets, "A").unwrap_err();
    assert!(error.contains("does not hold") && error.contains("berth secret put A --app a"), "{error}");
    assert!(!secrets.list(app()).unwrap()[0].readable);
    put(&secrets, "B", "y").await.unwrap();
    let plan = secrets.try_rotation().await.unwrap();
    assert_eq!(
        (plan.rotated, plan.unreadable, plan.in_use.len()),
        (1, vec![(SecretHolder::App(app()), name("A"))], 1)
    );
    let rotated = secrets.rotate().await.unwrap();
    assert_eq!((rotated.rotated, rotated.unreadable), (0, vec![(SecretHolder::App(app()), name("A"))]));
    assert_eq!(rotated.in_use.len(), 1);

    let mut changes = secrets.changes();
    stage.file().path().metadata().unwrap();
    fs::write(stage.file().path(), kept).unwrap();
    assert_eq!(read(&secrets, "A"), Ok("x".to_owned()));
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
}

#[tokio::test]
async fn no_secret_can_be_set_with_keys_whose_file_is_gone() {
    let stage = Stage::with_key();
    let secrets = stage.open();
    put(&secrets, "A", "x").await.unwrap();
    fs::remove_file(stage.file().path()).unwrap();
    assert!(matches!(put(&secrets, "A", "y").await, Err(SecretError::NoKeys(_))));
    // Existing secrets are decrypted with the keys in memory.
    assert_eq!(read(&secrets, "A"), Ok("x".to_owned()));
}

#[tokio::test]
async fn a_secret_moved_to_another_name_does_not_open() {
    let stage = Stage::with_key();
    let secrets = stage.open();
    put(&secrets, "A", "x").await.unwrap();
    let moved =
        SecretRecord { name: name("B"), ..stage.store.secret(&app().into(), &name("A")).unwrap().unwrap() };
    store::write(&*stage.store, Write::Secret(moved)).await.unwrap();
    let error = read(&secrets, "B").unwrap_err();
    assert!(error.contains("damaged"), "{error}");
    assert!(!secrets.list(app()).unwrap()[1].readable);
}

#[tokio::test]
async fn a_rotation_leaves_everything_under_the_new_key_and_the_old_one_goes() {
    let stage = Stage::with_key();
    let secrets = stage.open();
    for index in 0..70 {
        put(&secrets, &format!("S{index}"), &format!("v{index}")).await.unwrap();
    }
    let old = stage.file().read().unwrap().current().id();
    let text = fs::read(stage.file().path()).unwrap();
    let plan = secrets.try_rotation().await.unwrap();
    assert_eq!((plan.current, plan.rotated, plan.in_use.len()), (old, 70, 0));
    assert_eq!(stage.file().surplus(plan.current, &plan.in_use).unwrap(), 0);
    assert_eq!(fs::read(stage.file().path()).unwrap(), text);
    let new = stage.file().add().unwrap();
    assert!(stage.file().surplus(old, &[]).is_err());
    assert_eq!(stage.file().surplus(new, &[]).unwrap(), 1);
    assert_eq!(stage.file().read().unwrap().ids().len(), 2);
    let rotated = secrets.rotate().await.unwrap();
    assert_eq!((rotated.current, rotated.rotated, rotated.in_use.len()), (new, 70, 0));
    assert_eq!(stage.file().keep(rotated.current, &rotated.in_use).unwrap(), 1);
    assert!(stage.file().read().unwrap().get(old).is_none());
    for secrets in [&secrets, &stage.open()] {
        for index in 0..70 {
            assert_eq!(read(secrets, &format!("S{index}")), Ok(format!("v{index}")));
        }
        assert_eq!(secrets.list(app()).unwrap()[0].version, 1);
    }
    assert_eq!(secrets.rotate().await.unwrap().rotated, 0);
}

/// The states of file and store that a kill may leave: with the new key added, with some secrets encrypted with it,
/// with all of them, and with the old key removed. In each, the next process can read everything, and the rotation can
/// be repeated.
#[tokio::test]
async fn a_rotation_killed_at_any_step_leaves_everything_readable() {
    for step in 0..4 {
        let stage = Stage::with_key();
        let secrets = stage.open();
        for index in 0..4 {
            put(&secrets, &format!("S{index}"), &format!("v{index}")).await.unwrap();
        }
        stage.file().add().unwrap();
        let keys = stage.file().read().unwrap();
        for index in 0..[0, 2, 4, 4][step] {
            let record = stage.store.secret(&app().into(), &name(&format!("S{index}"))).unwrap().unwrap();
            let value = secrets.open_record(&keys, &record).unwrap();
            let sealed =
                sealed::seal(keys.current(), About::secret(&app().into(), &record.name), &value).unwrap();
            let write = Write::Secret(SecretRecord { sealed, ..record });
            store::write(&*stage.store, write).await.unwrap();
        }
        if step == 3 {
            stage.file().keep(keys.current().id(), &[]).unwrap();
        }
        drop(secrets);
        let secrets = stage.open();
        for _ in 0..2 {
            for index in 0..4 {
                assert_eq!(read(&secrets, &format!("S{index}")), Ok(format!("v{index}")), "step {step}");
            }
            stage.file().add().unwrap();
            let rotated = secrets.rotate().await.unwrap();
            stage.file().keep(rotated.current, &rotated.in_use).unwrap();
            assert_eq!(stage.file().read().unwrap().ids(), [rotated.current]);
        }
    }
}

#[tokio::test]
async fn the_store_holds_nothing_of_a_value() {
    let stage = Stage::with_key();
    let secrets = stage.open();
    put(&secrets, "A", "marmalade-sandwich").await.unwrap();
    let record = stage.store.secret(&app().into(), &name("A")).unwrap().unwrap();
    stage.store.close();
    let database = fs::read(stage.directory.path().join("store/db")).unwrap();
    let holds = |part: &[u8]| database.windows(part.len()).any(|window| window == part);
    assert!(holds(b"A") && !holds(b"marmalade"));
    assert!(!format!("{record:?}{secrets:?}", secrets = secrets.list(app())).contains("marmalade"));
}

#[tokio::test]
async fn a_user_of_a_registry_is_kept_sealed_and_rotated_with_the_secrets() {
    let stage = Stage::with_key();
    let secrets = stage.open();
    let registry: Registry = "r.example:5000".parse().unwrap();
    let login = |username: &str| {
        let password = Secret::new("opensesame".to_owned());
        Login { username: username.to_owned(), password }
    };
    secrets.put_login(registry.clone(), login("me")).await.unwrap();
    let kept = secrets.registries().unwrap();
    assert_eq!((kept.len(), kept[0].username.as_str(), kept[0].readable), (1, "me", true));
    assert!(!format!("{kept:?}").contains("opensesame"));
    secrets.rotate().await.unwrap();
    assert_eq!(secrets.login(&registry).unwrap(), Some(login("me")));
    assert!(secrets.delete_login(&registry).await.unwrap());
    assert!(!secrets.delete_login(&registry).await.unwrap());
    for bad in ["", "a:b", "a\nb"] {
        assert!(secrets.put_login(registry.clone(), login(bad)).await.is_err(), "{bad}");
    }
}

fn shared(name: &str) -> StoreName {
    name.parse().unwrap()
}

#[tokio::test]
async fn a_store_has_secrets_of_its_own_which_are_kept_sealed_and_rotated() {
    let stage = Stage::with_key();
    let secrets = stage.open();
    let value = |text: &str| Secret::new(text.to_owned());
    put(&secrets, "S", "of the app").await.unwrap();
    secrets.put(shared("a"), name("S"), value("of the store")).await.unwrap();
    let read_shared = |secrets: &Secrets, key: &str| secrets.get(shared("a"), &name(key));
    assert_eq!(read_shared(&secrets, "S").unwrap(), value("of the store"));
    assert_eq!(read(&secrets, "S"), Ok("of the app".to_owned()));
    assert_eq!(secrets.stores().unwrap(), BTreeMap::from([(shared("a"), 1)]));
    assert!(secrets.list(shared("a")).unwrap()[0].readable);

    // Moved to another holder it does not open.
    let record = stage.store.secret(&shared("a").into(), &name("S")).unwrap().unwrap();
    assert!(!format!("{record:?}").contains("of the store"));
    let moved = SecretRecord { holder: app().into(), name: name("M"), ..record };
    store::write(&*stage.store, Write::Secret(moved)).await.unwrap();
    assert!(read(&secrets, "M").unwrap_err().contains("damaged"));
    assert!(secrets.delete(app(), name("M")).await.unwrap());

    let old = stage.file().read().unwrap().current().id();
    stage.file().add().unwrap();
    assert_eq!(secrets.rotate().await.unwrap().rotated, 2);
    let kept = stage.store.secret(&shared("a").into(), &name("S")).unwrap().unwrap();
    assert!(kept.sealed.key != old);
    assert_eq!(read_shared(&stage.open(), "S").unwrap(), value("of the store"));

    let named = ["S", "T", "T"].map(|key| StoredSecret { store: shared("a"), name: name(key) });
    assert_eq!(secrets.missing_of_stores(named.iter()).unwrap(), [named[1].clone()]);
    let error = read_shared(&secrets, "T").unwrap_err().to_string();
    assert!(error.contains("the store `a` has no secret `T`") && error.contains("T --store a"), "{error}");
    assert!(secrets.delete(shared("a"), name("S")).await.unwrap());
    assert!(!secrets.delete(shared("a"), name("S")).await.unwrap());
    assert!(secrets.stores().unwrap().is_empty() && read(&secrets, "S").is_ok());
}

#[tokio::test]
async fn stores_and_their_secrets_are_bounded() {
    let stage = Stage::with_key();
    let secrets = stage.open();
    let one = || Secret::new("x".to_owned());
    for index in 0..MAX_SECRET_STORES {
        secrets.put(shared(&format!("s{index}")), name("A"), one()).await.unwrap();
    }
    let more = secrets.put(shared("more"), name("A"), one()).await;
    assert!(matches!(more, Err(SecretError::TooManyStores)));
    for index in 1..MAX_SECRETS {
        secrets.put(shared("s0"), name(&format!("A{index}")), one()).await.unwrap();
    }
    let more = secrets.put(shared("s0"), name("ONE_MORE"), one()).await;
    assert!(matches!(more, Err(SecretError::TooMany(_))));
    assert!(secrets.delete(shared("s1"), name("A")).await.unwrap());
    secrets.put(shared("more"), name("A"), one()).await.unwrap();
}

#[tokio::test]
async fn a_stamp_changes_with_what_can_be_read_and_with_nothing_else() {
    let stage = Stage::with_key();
    let secrets = stage.open();
    let store: StoreName = "s".parse().unwrap();
    let stamp = |secrets: &Secrets| {
        let named = [(SecretHolder::from(&app()), name("A")), (SecretHolder::from(&store), name("B"))];
        secrets.stamp(named.into_iter())
    };
    let none = stamp(&secrets);
    put(&secrets, "A", "one").await.unwrap();
    let one = stamp(&secrets);
    assert!(none != one && !one.has_unreadable());
    // Another secret, the same value again, and another key.
    put(&secrets, "OTHER", "two").await.unwrap();
    put(&secrets, "A", "one").await.unwrap();
    stage.file().add().unwrap();
    secrets.rotate().await.unwrap();
    assert!(stamp(&secrets) == one);
    put(&secrets, "A", "two").await.unwrap();
    assert!(stamp(&secrets) != one);
    put(&secrets, "A", "one").await.unwrap();
    secrets.put(store.clone(), name("B"), Secret::new("one".to_owned())).await.unwrap();
    let both = stamp(&secrets);
    assert!(both != one);
    // The key file is away while an edge starts, and comes back.
    let file = stage.file().path().to_owned();
    let away = file.with_extension("away");
    fs::rename(&file, &away).unwrap();
    let secrets = stage.open();
    let unreadable = stamp(&secrets);
    assert!(unreadable.has_unreadable() && unreadable != both);
    fs::rename(&away, &file).unwrap();
    assert!(stamp(&secrets) == both);
}
