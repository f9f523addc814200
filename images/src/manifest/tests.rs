use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn digest(of: u8) -> String {
    Digest::of(&[of]).to_string()
}

fn descriptor(media_type: &str, size: u64) -> Value {
    json!({"mediaType": media_type, "digest": digest(1), "size": size})
}

fn image(layers: &[Value]) -> Value {
    let config = descriptor("application/vnd.oci.image.config.v1+json", 10);
    json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers})
}

fn read(value: &Value) -> Result<Manifest, ManifestError> {
    Manifest::read(value.to_string().as_bytes())
}

fn read_image(value: &Value) -> ImageManifest {
    match read(value).unwrap() {
        Manifest::Image(image) => image,
        Manifest::Index(_) => panic!("an index"),
    }
}

fn config(more: Value) -> Result<Config, ManifestError> {
    let mut whole =
        json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}});
    whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Config::read(whole.to_string().as_bytes())
}

fn with_layers(count: u8) -> Config {
    let digests: Vec<String> = (0..count).map(digest).collect();
    config(json!({"rootfs": {"type": "layers", "diff_ids": digests}})).unwrap()
}

#[test]
fn manifests_of_both_kinds_are_read() {
    for (layer, media_type) in
        LAYER_TYPES.iter().zip([Some(OCI_MANIFEST), Some(DOCKER_MANIFEST), None].iter().cycle())
    {
        let mut value = image(&[descriptor(layer, 5)]);
        value["mediaType"] = json!(media_type);
        let image = read_image(&value);
        assert_eq!((image.bytes(), image.media_type.as_str()), (15, media_type.unwrap_or(OCI_MANIFEST)));
        assert_eq!(image.layers_of(&with_layers(1)).unwrap()[0].1, &Digest::of(&[0]));
    }
}

#[test]
fn what_is_null_is_not_said() {
    let mut value =
        image(&[json!({"mediaType": null, "digest": digest(1), "size": 1, "platform": null, "urls": null})]);
    for name in ["mediaType", "manifests", "subject", "annotations", "artifactType"] {
        value[name] = Value::Null;
    }
    let image = read_image(&value);
    assert_eq!(image.layers[0].media_type, "");
}

#[test]
fn a_document_is_one_thing() {
    let mut both = image(&[]);
    both["manifests"] = json!([]);
    assert!(read(&both).unwrap_err().to_string().contains("neither"));
    assert!(read(&json!({"schemaVersion": 2})).is_err());
    assert!(read(&json!({"schemaVersion": 1, "manifests": []})).is_err());
    for media_type in [OCI_INDEX, DOCKER_LIST, "text/plain", ""] {
        let mut value = image(&[]);
        value["mediaType"] = json!(media_type);
        assert!(matches!(read(&value), Err(ManifestError::MediaType(_))), "{media_type}");
    }
    let twice = r#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#;
    assert!(matches!(Manifest::read(twice.as_bytes()), Err(ManifestError::Json(_))));
}

#[test]
fn parts_are_bounded() {
    let layer = || descriptor(LAYER_TYPES[0], 1);
    assert!(read(&image(&vec![layer(); MAX_LAYERS])).is_ok());
    assert!(matches!(read(&image(&vec![layer(); MAX_LAYERS + 1])), Err(ManifestError::TooMany(..))));
    let index = |count, size| {
        read(&json!({"schemaVersion": 2, "manifests": vec![descriptor(OCI_MANIFEST, size); count]}))
    };
    assert!(index(MAX_MANIFESTS, 1).is_ok());
    assert!(matches!(index(MAX_MANIFESTS + 1, 1), Err(ManifestError::TooMany(..))));
    assert!(matches!(index(1, (4 << 20) + 1), Err(ManifestError::PartTooLarge(..))));
    let mut large = image(&[]);
    large["config"]["size"] = json!((4 << 20) + 1);
    assert!(matches!(read(&large), Err(ManifestError::PartTooLarge(..))));
    let huge = descriptor(LAYER_TYPES[0], u64::MAX / 2);
    assert!(matches!(read(&image(&[huge.clone(), huge])), Err(ManifestError::Senseless(_))));
    for size in [json!(-1), json!(1.5), json!("1"), json!(null)] {
        let mut value = image(&[layer()]);
        value["layers"][0]["size"] = size;
        assert!(matches!(read(&value), Err(ManifestError::Json(_))));
    }
    assert!(matches!(Manifest::read(&vec![b' '; MAX_DOCUMENT_BYTES + 1]), Err(ManifestError::TooLarge(_))));
    assert!(Manifest::read("[".repeat(100_000).as_bytes()).is_err());
}

#[test]
fn layers_that_cannot_be_unpacked_are_kept_and_not_run() {
    let taken = |media_type: &str| {
        read_image(&image(&[descriptor(media_type, 1)])).layers_of(&with_layers(1)).map(|_| ())
    };
    let run = |media_type: &str| taken(media_type).unwrap_err();
    for withheld in [
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ] {
        // Whoever has its content may run it.
        taken(withheld).unwrap();
        assert!(read_image(&image(&[descriptor(withheld, 1)])).layers[0].is_withheld());
    }
    for other in ["application/vnd.in-toto+json", "application/vnd.oci.image.layer.v1.tar+gzip+encrypted", ""]
    {
        assert!(matches!(run(other), ManifestError::Layer { .. }));
    }
}

#[test]
fn layers_and_configuration_agree() {
    let two = read_image(&image(&vec![descriptor(LAYER_TYPES[1], 1); 2]));
    assert!(two.layers_of(&with_layers(2)).is_ok());
    let error = two.layers_of(&with_layers(1)).unwrap_err().to_string();
    assert!(error.contains("2 layers") && error.contains("speaks of 1"), "{error}");
    let none = read_image(&image(&[]));
    assert!(matches!(none.layers_of(&with_layers(0)), Err(ManifestError::NoLayers)));
}

fn index(platforms: &[Value]) -> Index {
    let of = |(at, platform): (u8, &Value)| json!({"digest": digest(at), "size": 1, "platform": platform});
    let manifests: Vec<Value> = (0..).zip(platforms).map(of).collect();
    match read(&json!({"schemaVersion": 2, "manifests": manifests})).unwrap() {
        Manifest::Index(index) => index,
        Manifest::Image(_) => panic!("an image"),
    }
}

#[test]
fn an_index_gives_what_fits_the_machine() {
    let (amd64, arm64) = (Architecture::of_name("amd64").unwrap(), Architecture::of_name("arm64").unwrap());
    let of = |architecture, variant| json!({"os": "linux", "architecture": architecture, "variant": variant});
    let unknown = json!({"os": "unknown", "architecture": "unknown"});
    let windows = json!({"os": "windows", "architecture": "amd64"});
    let all = [unknown, windows, of("amd64", Some("v3")), of("amd64", None), of("arm64", Some("v8"))];
    let chosen = |index: &Index, of| index.choose(of).map(|of| of.digest.to_string());
    assert_eq!(chosen(&index(&all), amd64), Some(digest(3)));
    assert_eq!(chosen(&index(&all), arm64), Some(digest(4)));
    assert_eq!(chosen(&index(&all[..3]), amd64), Some(digest(2)));
    assert_eq!(chosen(&index(&all[..2]), amd64), None);
    assert_eq!(chosen(&index(&[Value::Null, all[3].clone()]), arm64), Some(digest(0)));
    let mut other = index(&[Value::Null]);
    other.manifests[0].media_type = "application/vnd.example.thing".to_owned();
    assert_eq!(chosen(&other, amd64), None);
}

/// As the programs write them that most images are built with.
#[test]
fn configurations_of_all_builders_are_read() {
    let docker = json!({
        "config": {
            "Hostname": "", "User": "", "AttachStdin": false, "Env": ["PATH=/bin", "A=b=c", "A=d", "NONE", "=x"], "Cmd": ["sh"],
            "ArgsEscaped": true, "Image": "sha256:1", "Volumes": null, "WorkingDir": "", "Entrypoint": null,
            "OnBuild": null, "Labels": null, "Healthcheck": {"Test": ["NONE"]}
        },
        "container_config": {"Cmd": ["/bin/sh", "-c"]}, "created": "2020-01-01T00:00:00Z", "docker_version": "19.03",
        "history": [{"created": "2020-01-01T00:00:00Z", "empty_layer": true}], "variant": "v1"
    });
    let read = config(docker).unwrap();
    assert_eq!((read.args, read.cwd.as_str(), read.user.as_str()), (vec!["sh".to_owned()], "/", ""));
    assert_eq!(read.env, BTreeMap::from([("A".into(), "d".into()), ("PATH".into(), "/bin".into())]));
    let buildah = json!({
        "created": "2020-01-01T00:00:00.5Z", "author": "x",
        "config": {"Entrypoint": ["/app"], "Cmd": ["-v"], "WorkingDir": "srv", "User": "1000:1000", "Labels": {"a": "b"}}
    });
    let read = config(buildah).unwrap();
    assert_eq!(
        (read.args.join(" "), read.cwd.as_str(), read.user.as_str()),
        ("/app -v".into(), "/srv", "1000:1000")
    );
    // This is how a Dockerfile takes away the entrypoint of its base.
    let reset = json!({"config": {"Entrypoint": [""], "Cmd": ["/run", ""]}});
    assert_eq!(config(reset).unwrap().args, ["/run", ""]);
    let umoci = json!({"created": null, "config": {}, "history": null});
    let kaniko = json!({"config": null, "author": "kaniko", "container": "x", "os.version": null});
    let old = json!({"config": {"Cmd": "/run", "Entrypoint": []}});
    assert_eq!(config(umoci).unwrap().args, [""; 0]);
    assert_eq!(config(kaniko).unwrap().args, [""; 0]);
    assert_eq!(config(old).unwrap().args, ["/run"]);
    assert_eq!(config(json!({"rootfs": {"diff_ids": null}})).unwrap().diff_ids, []);
}

#[test]
fn configurations_that_cannot_be_run_are_refused() {
    assert!(config(json!({"os": "windows"})).unwrap_err().to_string().contains("windows/amd64"));
    assert!(config(json!({"architecture": "riscv64"})).unwrap_err().to_string().contains("linux/riscv64"));
    assert!(config(json!({"rootfs": {"diff_ids": ["sha256:x"]}})).is_err());
    let many = vec![digest(0); MAX_LAYERS + 1];
    assert!(matches!(config(json!({"rootfs": {"diff_ids": many}})), Err(ManifestError::TooMany(..))));
    assert!(matches!(Config::read(&vec![b' '; MAX_DOCUMENT_BYTES + 1]), Err(ManifestError::TooLarge(_))));
}

/// JSON that is nearly a document.
fn nearly() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        Just(json!(2)),
        Just(json!(OCI_MANIFEST)),
        Just(json!("linux")),
        Just(json!("amd64")),
        Just(json!(digest(0))),
        Just(descriptor(LAYER_TYPES[0], 1)),
    ];
    let name = prop::sample::select(vec![
        "schemaVersion",
        "mediaType",
        "config",
        "layers",
        "manifests",
        "subject",
        "digest",
        "size",
        "platform",
        "os",
        "architecture",
        "rootfs",
        "diff_ids",
        "Env",
        "Cmd",
        "Entrypoint",
        "WorkingDir",
    ]);
    leaf.prop_recursive(4, 40, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..8).prop_map(|map| map
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect::<Value>()),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_read_keeps_within_the_bounds(value in nearly()) {
        let mut value = value;
        if let Some(document) = value.as_object_mut() {
            document.insert("schemaVersion".into(), json!(2));
        }
        match read(&value) {
            Ok(Manifest::Image(image)) => {
                prop_assert!(image.layers.len() <= MAX_LAYERS);
                prop_assert!(i64::try_from(image.bytes()).is_ok());
            }
            Ok(Manifest::Index(index)) => prop_assert!(index.manifests.len() <= MAX_MANIFESTS),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
        if let Ok(config) = Config::read(value.to_string().as_bytes()) {
            prop_assert!(config.cwd.starts_with('/'));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = (Manifest::read(&bytes), Config::read(&bytes));
    }
}

#[test]
fn a_user_that_no_container_has_is_refused_before_anything_runs() {
    let of = |user: &str| {
        let rootfs = json!({"type": "layers", "diff_ids": [digest(0)]});
        let config = config(json!({"rootfs": rootfs, "config": {"User": user}})).unwrap();
        read_image(&image(&[descriptor(LAYER_TYPES[0], 1)])).layers_of(&config).map(|_| ())
    };
    for good in ["", "web", "65535", "65535:65535", "web:"] {
        assert!(of(good).is_ok(), "{good}");
    }
    for bad in ["65536", "0:65536", "99999999999"] {
        assert!(of(bad).unwrap_err().to_string().contains("0 to 65535"), "{bad}");
    }
}

#[test]
fn signals_volumes_and_entrypoints_are_as_docker_has_them() {
    let run = json!({
        "Entrypoint": [""], "Cmd": ["/app"], "StopSignal": "SIGQUIT", "Volumes": {"/data": {}, "rel": {}}
    });
    let read = config(json!({"config": run})).unwrap();
    assert_eq!(read.args, ["/app"]);
    assert_eq!(read.stop_signal.as_deref(), Some("SIGQUIT"));
    assert_eq!(read.volumes, ["/data", "/rel"]);
    let none = config(json!({"config": {"StopSignal": "", "Volumes": null}})).unwrap();
    assert!(none.stop_signal.is_none() && none.volumes.is_empty());
}
