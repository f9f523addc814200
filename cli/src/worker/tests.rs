//! Tests of projects that become apps, and of those that are refused: all at once, by name, with file, line and column.

use std::fs;

use super::*;

const CONFIG: &str = r#"{
  // A Worker.
  "name": "w",
  "main": "src/index.ts",
  "compatibility_date": "2026-01-31",
  "vars": {"GREETING": "hello", "LIST": [1]},
  "triggers": {"crons": ["*/5 * * * *"]},
  "assets": {"directory": "./public", "binding": "ASSETS", "run_worker_first": ["/api/*"]}
}"#;

/// A project with this configuration and entry.
fn write(config: &str, entry: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in
        [("wrangler.jsonc", config), ("src/index.ts", entry), ("public/index.html", "<p>hello")]
    {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

const ENTRY: &str =
    "import { word } from './word';\nexport default { fetch(r: Request) { return new Response(word) } };\n";

fn refused(directory: &Path) -> String {
    let error = Worker::read(directory, None, Mode::Production).unwrap_err();
    error.downcast_ref::<BadInput>().expect("bad input").to_string()
}

#[test]
fn a_project_becomes_a_program_whose_modules_are_named_by_digest() {
    let directory = write(CONFIG, ENTRY);
    fs::write(directory.path().join("src/word.ts"), "export const word: string = 'w';\n").unwrap();
    assert!(is_there(directory.path()));
    let worker = Worker::read(directory.path(), None, Mode::Production).unwrap();
    assert_eq!(worker.describe().unwrap(), "modules: 2, static files: 1");
    let spec = || {
        let mut content = Content::default();
        let config = &worker.project.config;
        program(config, worker.project.program.as_ref().unwrap(), &mut content).unwrap()
    };
    let made = spec();
    assert_eq!(made, spec());
    assert_eq!(made.faults(), []);
    assert_eq!((made.entry.as_str(), made.modules.len()), ("src/index.ts", 2));
    let source = &worker.project.program.as_ref().unwrap().modules["src/word.ts"].source;
    assert_eq!(made.modules[1].digest, Digest::of(source.as_bytes()));
    assert_eq!(made.before_assets, BeforeAssets::Paths(vec!["/api/*".to_owned()]));
    assert_eq!(made.vars["LIST"], ProgramVar::Json("[1]".to_owned()));
    assert!(made.handlers.contains("fetch") && made.crons.len() == 1);
}

#[test]
fn all_that_is_wrong_is_told_at_once_with_file_line_and_column() {
    let bad = CONFIG.replace("*/5", "*/x");
    let directory = write(&bad, "export default {");
    let text = refused(directory.path());
    let prefix = directory.path().display().to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.iter().all(|line| line.starts_with(&prefix)), "{text}");
    for part in ["src/index.ts:1:", "wrangler.jsonc:7:"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let directory =
        write(CONFIG, "import './none';\nimport 'fs';\nexport default { fetch() { } };\nlet x = ;");
    assert!(refused(directory.path()).contains("src/index.ts:4:"), "{}", refused(directory.path()));
}

const OBJECTS: &str = "import { DurableObject } from 'cloudflare:workers';\nexport class A extends DurableObject {}\nexport default { fetch() {} };";

#[test]
fn classes_of_objects_have_their_first_names_and_their_namespaces() {
    let steps = r#""durable_objects": {"bindings": [{"name": "ROOMS", "class_name": "A"}]},
        "migrations": [{"tag": "v1", "new_sqlite_classes": ["Old"]}, {"tag": "v2", "renamed_classes": [{"from": "Old", "to": "A"}]}]"#;
    let directory = write(&with(steps), OBJECTS);
    let read = Worker::read(directory.path(), None, Mode::Production).unwrap().project;
    let made = program(&read.config, read.program.as_ref().unwrap(), &mut Content::default()).unwrap();
    let class = |name: &str| name.parse::<ClassName>().unwrap();
    assert_eq!(made.object_classes, BTreeMap::from([(class("A"), class("Old"))]));
    assert_eq!(made.durable_objects, BTreeMap::from([("ROOMS".to_owned(), class("A"))]));
    let taken = r#""migrations": [{"tag": "v1", "new_sqlite_classes": ["Old"]}, {"tag": "v2", "renamed_classes": [{"from": "Old", "to": "A"}],
        "new_sqlite_classes": ["Old"]}]"#;
    let both = format!("{OBJECTS}\nexport class Old extends DurableObject {{}}");
    let text = refused(write(&with(taken), &both).path());
    assert!(text.contains("the first name of one that was renamed"), "{text}");
}

#[test]
fn what_edges_do_not_run_is_refused_by_name_and_line() {
    let steps = r#""migrations": [{"tag": "v1", "new_sqlite_classes": ["A", "B"]}, {"tag": "v2", "deleted_classes": ["B"]}]"#;
    let text = refused(write(&with(steps), OBJECTS).path());
    assert!(
        text.contains("deleted_classes: B") && text.ends_with("not supported by this version of Berth"),
        "{text}"
    );
    let directory = write(CONFIG, "export default { fetch() {} };");
    fs::write(directory.path().join("public/_redirects"), "/a /b").unwrap();
    let text = refused(directory.path());
    assert!(text.contains("wrangler.jsonc:8:") && text.contains("the file _redirects"), "{text}");
}

#[test]
fn secrets_of_stores_are_bound_by_store_and_name() {
    let stored =
        r#""secrets_store_secrets": [{"binding": "STORED", "store_id": "0a1b", "secret_name": "API_KEY"}]"#;
    let directory = write(&with(stored), "export default { fetch() {} };");
    let read = read(directory.path()).project;
    let mut made = program(&read.config, read.program.as_ref().unwrap(), &mut Content::default()).unwrap();
    bind(&mut made, std::iter::once("STORED".parse().unwrap()));
    assert!(made.secrets.is_empty(), "the name is taken");
    let StoredSecret { store, name } = &made.store_secrets["STORED"];
    assert_eq!((store.as_str(), name.as_str()), ("0a1b", "API_KEY"));
    assert_eq!(made.faults(), []);
    for (key, bad) in [("0a1b", "a/b"), ("API_KEY", "API-KEY"), ("STORED", "GREETING")] {
        let text = refused(write(&with(&stored.replace(key, bad)), ENTRY).path());
        assert!(text.contains("wrangler.jsonc:6:") && text.contains("secrets_store_secrets"), "{text}");
    }
}

#[test]
fn an_app_of_berths_own_is_none() {
    let directory = write(CONFIG, ENTRY);
    fs::write(directory.path().join(MANIFEST), "[[containers]]\nclass_name = \"A\"\nprepared = 2\n").unwrap();
    assert!(is_there(directory.path()));
    fs::write(directory.path().join(MANIFEST), "name = \"a\"\n").unwrap();
    assert!(!is_there(directory.path()));
}

/// A configuration with more in it.
fn with(more: &str) -> String {
    CONFIG.replacen("  \"vars\"", &format!("  {more},\n  \"vars\""), 1)
}

#[test]
fn bad_input_is_refused_with_its_place_and_never_half_read() {
    let sound = "export default { fetch() { return new Response('x') } };\n";
    let deep = format!("\"x\": {}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let huge = format!("\"x\": \"{}\"", "y".repeat(3 << 20));
    let large = format!("/* {} */ {sound}", "z".repeat(20 << 20));
    let bound = r#""durable_objects": {"bindings": [{"name": "A", "class_name": "Missing"}]}, "migrations": [{"tag": "v1", "new_sqlite_classes": ["Missing"]}]"#;
    let unbound = r#""durable_objects": {"bindings": [{"name": "A", "class_name": "Nowhere"}]}"#;
    let twice = r#""migrations": [{"tag": "v1", "new_sqlite_classes": ["A"]}, {"tag": "v1", "new_sqlite_classes": ["A"]}]"#;
    let cases: [(&str, String, String, &str); 11] = [
        ("a syntax error", CONFIG.to_owned(), "export default {\n  fetch( {\n".to_owned(), "src/index.ts:"),
        ("a missing module", CONFIG.to_owned(), format!("import './none';\n{sound}"), "src/index.ts:1:"),
        ("a module of Node", CONFIG.to_owned(), format!("import 'node:fs';\n{sound}"), "src/index.ts:1:"),
        ("a class that is not exported", with(bound), sound.to_owned(), "wrangler.jsonc:6:"),
        ("a binding to nothing", with(unbound), sound.to_owned(), "wrangler.jsonc:6:"),
        ("migrations that contradict", with(twice), sound.to_owned(), "wrangler.jsonc:6:"),
        (
            "a binding that there is not",
            with("\"ai\": {\"binding\": \"AI\"}"),
            sound.to_owned(),
            "wrangler.jsonc:6:",
        ),
        ("a deep configuration", with(&deep), sound.to_owned(), "wrangler.jsonc"),
        ("a huge configuration", with(&huge), sound.to_owned(), "wrangler.jsonc"),
        ("no JSON", "{".to_owned(), sound.to_owned(), "wrangler.jsonc:1:"),
        ("twenty megabytes of source", CONFIG.to_owned(), large, "src/index.ts"),
    ];
    for (what, config, entry, place) in cases {
        let directory = write(&config, &entry);
        let text = refused(directory.path());
        assert!(text.contains(place) && text.len() < 64 << 10, "{what}: {}", &text[..text.len().min(500)]);
    }
}

#[test]
fn what_is_no_directory_of_static_files_is_told() {
    let directory = write(CONFIG, "export default { fetch() {} };");
    fs::remove_dir_all(directory.path().join("public")).unwrap();
    let text = refused(directory.path());
    assert!(text.contains("wrangler.jsonc:8:") && text.contains("public"), "{text}");
}

/// A class with a container, and what its configuration says besides.
fn contained(more: &str) -> String {
    let image = if more.contains("image\":") { "" } else { r#""image": "./Dockerfile", "# };
    with(&format!(
        r#""durable_objects": {{"bindings": [{{"name": "ROOMS", "class_name": "A"}}]}},
        "containers": [{{"class_name": "A", {image}{more}}}],
        "migrations": [{{"tag": "v1", "new_sqlite_classes": ["Old"]}}, {{"tag": "v2", "renamed_classes": [{{"from": "Old", "to": "A"}}]}}]"#
    ))
}

fn read(directory: &Path) -> Worker {
    Worker::read(directory, None, Mode::Production).unwrap()
}

#[test]
fn a_class_with_a_container_is_one_of_the_app_under_its_first_name() {
    let config = contained(
        r#""max_instances": 3, "instance_type": {"vcpu": 0.5, "memory_mib": 512, "disk_mb": 1000}, "image_vars": {"V": "1"}, "image_build_context": "./public""#,
    );
    let directory = write(&config, OBJECTS);
    let own = "[[containers]]\nclass_name = \"A\"\nprepared = 4\ninit = false\ncapabilities = [\"setuid\"]\nregions = [\"eu\"]\n";
    fs::write(directory.path().join("Dockerfile"), "FROM scratch\n").unwrap();
    fs::write(directory.path().join(MANIFEST), own).unwrap();
    let worker = read(directory.path());
    assert_eq!(worker.describe().unwrap(), "modules: 1, static files: 1, classes with containers: 1");
    let [Contained { class, image }] = &worker.contained[..] else { panic!("{:?}", worker.contained) };
    let spec = class.to_spec(berth_common::spec::ImageRef::new("w/old".parse().unwrap(), Digest::of(b"x")));
    assert_eq!(class.name.as_str(), "Old");
    assert_eq!((spec.max_instances, spec.prepared, spec.recipe.init), (Some(3), 4, false));
    assert!(spec.placement.regions.iter().eq(["eu"]) && spec.placement.labels.is_empty());
    assert_eq!((spec.recipe.resources.cpu_sixteenths, spec.recipe.resources.memory_bytes), (8, 512 << 20));
    assert_eq!((spec.default_port, &spec.hooks, spec.recipe.capabilities.len()), (None, &None, 1));
    let sleep_s = spec.sleep_after.time().map(|time| time.as_secs());
    assert_eq!((sleep_s, spec.stop_grace.as_secs()), (Some(600), 900));
    let build = image.build.as_ref().unwrap();
    assert_eq!(build.context, Some(directory.path().join("public")));
    assert_eq!(build.vars["V"], "1");
    // What it is built of is watched.
    for file in ["public", "Dockerfile"] {
        assert!(image.files().contains(&directory.path().join(file)), "{:?}", image.files());
    }
}

#[test]
fn images_of_projects_come_from_where_they_may() {
    use berth_common::manifest::ImageSource;
    let source = |image: &str| {
        let directory = write(&contained(&format!(r#""image": "{image}""#)), OBJECTS);
        fs::write(directory.path().join("any.name"), "FROM scratch\n").unwrap();
        read(directory.path()).contained.remove(0).image.source
    };
    let edge = |name: &str| ImageSource::Edge(name.parse().unwrap());
    assert_eq!(source("registry.cloudflare.com/0123abcd/web:v2"), edge("web:v2"));
    assert_eq!(source("berth:web:v2"), edge("web:v2"));
    assert!(matches!(source("docker.io/library/alpine:3"), ImageSource::Registry(_)));
    assert!(source("./any.name").path().is_some_and(|path| path.ends_with("any.name")));
}

#[test]
fn containers_that_cannot_be_are_refused_with_their_lines() {
    let cases = [
        (r#""image": "./none""#, "", "wrangler.jsonc:7:"),
        (r#""image": "./public""#, "", "wrangler.jsonc:7:"),
        (r#""image": "berth:x:1", "image_build_context": "/tmp""#, "", "wrangler.jsonc:7:"),
        (r#""image": "berth:x:1", "instance_type": "huge""#, "", "wrangler.jsonc:7:"),
        (r#""image": "berth:x:1""#, "warm = 1\n", "containers: A: warm: not supported by this version"),
        (
            r#""image": "berth:x:1", "max_instances": 3"#,
            "max_instances = 2\n",
            "in line 7; expected it in one of the two",
        ),
    ];
    for (more, own, expected) in cases {
        let directory = write(&contained(more), OBJECTS);
        let own = format!("[[containers]]\nclass_name = \"A\"\n{own}");
        fs::write(directory.path().join(MANIFEST), own).unwrap();
        let text = refused(directory.path());
        assert!(text.contains(expected), "{more}: {text}");
    }
}

#[test]
fn secrets_are_in_env_where_nothing_else_has_their_names() {
    let directory = write(CONFIG, "export default { fetch() {} };");
    let read = read(directory.path()).project;
    let mut made = program(&read.config, read.program.as_ref().unwrap(), &mut Content::default()).unwrap();
    bind(&mut made, ["KEY", "GREETING", "ASSETS", "KEY"].map(|name| name.parse().unwrap()).into_iter());
    assert_eq!(made.secrets.keys().map(VariableName::as_str).collect::<Vec<_>>(), ["KEY"]);
    assert_eq!(made.faults(), []);
}

#[test]
fn secrets_of_who_works_on_it_are_read_in_development_alone() {
    let names = |config: &str, mode: Mode| {
        let directory = write(config, "export default { fetch() {} };");
        fs::write(directory.path().join(".dev.vars"), "KEY=1\nGREETING=\"hi\"\n").unwrap();
        let vars = Worker::read(directory.path(), None, mode).unwrap().vars;
        vars.keys().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names(CONFIG, Mode::Development), ["GREETING", "KEY"]);
    assert!(names(CONFIG, Mode::Production).is_empty());
    let listed = with(r#""secrets": {"required": ["KEY", "OTHER"]}"#);
    assert_eq!(names(&listed, Mode::Development), ["KEY"]);
}
