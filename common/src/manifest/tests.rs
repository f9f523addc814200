//! Whole files, right and wrong: wrong ones with all that a person is shown.

mod sections;

use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::image::Digest;
use crate::spec::{Action, NameSource, PlacementSpec, Rate, RouteSpec, Spread};

fn parse(text: &str) -> Result<Manifest, Problems> {
    Manifest::parse(Path::new("berth.toml"), text)
}

/// What a person is shown of a wrong file, one problem a line.
fn shown(text: &str) -> String {
    parse(text).expect_err("the file is wrong").to_string()
}

const SMALLEST: &str = r#"
name = "hello"
[[containers]]
class_name = "Hello"
image = "./hello"
default_port = 8080
"#;

const FULL: &str = r#"
name = "hello"

[[containers]]
class_name = "Hello"
image = "oci:./layout"
instance_type = { vcpu = 0.25, memory = "512MiB", disk = "1GB" }
max_instances = 10
default_port = 8080
sleep_after = 90
entrypoint = ["/app/hello", "--loud"]
enable_internet = false
start_timeout = "1s 500ms"
port_timeout = 2.5
stop_grace = 0
wake_grace = "5s"

[containers.env]
GREETING = "hi"
EMPTY = ""

[[routes]]
path = "/container/{id}/*"
class = "Hello"
object = "{id}"
port = 9090

[[routes]]
path = "/*"
class = "Hello"
object = "the only one"
"#;

/// The times of a class, of a file or of a specification.
macro_rules! times {
    ($class:ident) => {
        [
            $class.sleep_after.time().unwrap(),
            $class.start_timeout,
            $class.port_timeout,
            $class.stop_grace,
            $class.wake_grace,
        ]
    };
}

#[test]
fn the_smallest_file_has_the_defaults() {
    let manifest = parse(SMALLEST).unwrap();
    let class = &manifest.classes[0];
    assert_eq!(class.image.source, ImageSource::Path("./hello".into()));
    assert_eq!(class.image.position, Position { line: 5, column: 9 });
    assert_eq!(Some(class.resources), Resources::of_type("lite"));
    assert_eq!((class.max_instances, &class.entrypoint), (None, &None));
    assert_eq!(times!(class).map(|time| time.as_secs()), [600, 8, 20, 900, 30]);
    assert_eq!(class.start_boost, Some(StartBoost { cpu_sixteenths: 16, at_most: Duration::from_secs(10) }));
    assert!(class.enable_internet && class.env.is_empty() && manifest.routes.is_empty());
}

#[test]
fn capabilities_are_some_of_a_short_list() {
    let of = |value: &str| {
        let text = SMALLEST.replace("default_port", &format!("capabilities = {value}\ndefault_port"));
        parse(&text).map(|manifest| manifest.classes[0].capabilities.clone())
    };
    assert_eq!(of("[\"setuid\", \"chown\"]").unwrap(), [Capability::Chown, Capability::Setuid].into());
    let said = of("[\"setuit\", \"sys_admin\"]").unwrap_err().to_string();
    assert!(
        said.contains("did you mean \"setuid\"?") && said.contains("\"sys_admin\" is no capability"),
        "{said}"
    );
    assert!(of("true").is_err());
}

#[test]
fn a_start_boost_is_off_or_of_ones_own() {
    let boost = |value: &str| {
        let text = SMALLEST.replace("default_port", &format!("start_boost = {value}\ndefault_port"));
        parse(&text).map(|manifest| manifest.classes[0].start_boost)
    };
    assert_eq!(boost("false").unwrap(), None);
    assert_eq!(boost("true").unwrap(), Some(StartBoost::default()));
    let own = StartBoost { cpu_sixteenths: 8, at_most: Duration::from_secs(3) };
    assert_eq!(boost("{ vcpu = 0.5, at_most = \"3s\" }").unwrap(), Some(own));
    // Of a container with 1/16 vCPU.
    assert!(boost("{ vcpu = 1, at_most = \"3s\" }").is_ok());
    let said = boost("{ vcpu = 250, at_most = \"3s\" }").unwrap_err().to_string();
    assert!(said.contains("with 0.0625 vCPU may start with 1 vCPU at most"), "{said}");
    let said = boost("{ vcpu = 0.3, at_most = \"2m\", x = 1 }").unwrap_err().to_string();
    assert_eq!(said.lines().count(), 3, "{said}");
}

#[test]
fn a_full_file_becomes_an_app() {
    let manifest = parse(FULL).unwrap();
    let image = ImageRef::new("full/hello".parse().unwrap(), Digest::of(b"x"));
    let spec = manifest.to_spec(|_| Ok::<_, Infallible>(image.clone())).unwrap();
    let class = &spec.classes[&"Hello".parse().unwrap()];
    assert_eq!(class.recipe.image, image);
    let Resources { cpu_sixteenths, memory_bytes, disk_bytes, disk_in_memory } = class.recipe.resources;
    assert!(!disk_in_memory);
    assert_eq!((cpu_sixteenths, memory_bytes, disk_bytes), (4, 512 << 20, 1_000_000_000));
    assert_eq!((class.max_instances, class.default_port), (Some(10), Some(8080)));
    assert_eq!(times!(class).map(|time| time.as_millis()), [90_000, 1_500, 2_500, 0, 5_000]);
    assert_eq!(class.recipe.entrypoint.as_deref(), Some(&["/app/hello".to_owned(), "--loud".to_owned()][..]));
    assert_eq!(class.recipe.env.get("GREETING").map(String::as_str), Some("hi"));
    assert_eq!(spec.routes[0].object, NameSource::PathParameter("id".into()));
    assert_eq!((spec.routes[0].port, spec.routes[1].port), (Some(9090), None));
    assert_eq!(spec.routes[1].object, NameSource::Constant("the only one".parse().unwrap()));
}

fn placed(lines: &str) -> Result<PlacementSpec, Problems> {
    parse(&format!("{SMALLEST}{lines}")).map(|manifest| manifest.classes[0].placement.clone())
}

#[test]
fn a_class_says_where_its_instances_may_be() {
    assert_eq!(placed("").unwrap(), PlacementSpec::default());
    let all =
        placed("regions = [\"eu\", \"a place\"]\nlabels = { gpu = \"a100\" }\nspread = \"node\"").unwrap();
    assert_eq!(all.regions.len(), 2);
    assert_eq!((all.labels["gpu"].as_str(), all.spread), ("a100", Some(Spread::Node)));
    for (lines, said) in [
        ("regions = \"eu\"", "expected names of regions"),
        ("regions = []", "0 regions; expected 1 to 32"),
        ("regions = [\"\"]", "is no region"),
        ("labels = { \"a b\" = \"c\" }", "the label \"a b\" is no label"),
        ("labels = { a = \"b=c\" }", "is no label"),
        ("labels = 7", "labels"),
        ("spread = \"rack\"", "nothing to spread over"),
        ("node_loss = \"10s\"", "10s is out of range; expected from 30s to 30days"),
        ("sleep_after = \"ever\"", "\"ever\" is not a duration"),
        ("on_node_gone = \"weep\"", "on_node_gone = \"restart\" or on_node_gone = \"on_demand\""),
    ] {
        let problems = placed(lines).unwrap_err().to_string();
        assert!(problems.contains(said), "{lines}: {problems}");
    }
}

/// The routes of a file whose only route has these lines.
fn routes(lines: &str) -> Result<Vec<RouteSpec>, Problems> {
    let class = "[[containers]]\nclass_name = \"A\"\nimage = \"./a\"\ndefault_port = 80\n";
    parse(&format!("name = \"x\"\n{class}[[routes]]\nclass = \"A\"\n{lines}\n"))
        .map(|manifest| manifest.routes)
}

#[test]
fn objects_are_named_by_any_part_of_a_request() {
    let named = |lines: &str| routes(lines).unwrap().remove(0).object;
    let host = "path = \"/*\"\nhosts = [\"{room}.example.com\"]\nobject = \"{room}\"";
    assert_eq!(named(host), NameSource::HostParameter("room".into()));
    let of = |source: &str| named(&format!("path = \"/*\"\nobject = {source}"));
    assert_eq!(of("{ header = \"X-User\" }"), NameSource::Header("x-user".into()));
    assert_eq!(of("{ cookie = \"user\" }"), NameSource::Cookie("user".into()));
    assert_eq!(of("{ query = \"user\" }"), NameSource::Query("user".into()));
    assert_eq!(of("{ random = 3 }"), NameSource::Random(3));
}

#[test]
fn wrong_routes_are_told_what_they_may_have() {
    for (lines, said) in [
        (
            "path = \"/*\"\nhosts = [\"{room}.a.de\", \"b.de\"]\nobject = \"{room}\"",
            "nor has each of the hosts",
        ),
        ("path = \"/*\"\nhosts = []\nobject = \"x\"", "1 to 64"),
        ("path = \"/*\"\nhosts = [\"a:80\"]\nobject = \"x\"", "without a port"),
        ("path = \"/*\"\nmethods = [\"get\"]\nobject = \"x\"", "is no method"),
        ("path = \"/*\"\nobject = { header = \"a b\" }", "names no header"),
        ("path = \"/*\"\nobject = { random = 0 }", "from 1 to"),
        ("path = \"/*\"\nobject = {}", "has 0 keys"),
        ("path = \"/*\"\nobject = { moon = \"x\" }", "`moon` is not a key"),
    ] {
        let problems = routes(lines).unwrap_err().to_string();
        assert!(problems.contains(said) && problems.lines().count() == 1, "{lines}\n{problems}");
    }
}

#[test]
fn the_same_path_may_be_routed_by_host_and_method() {
    let second = "\n[[routes]]\nclass = \"A\"\npath = \"/*\"\nobject = \"y\"";
    let first = "path = \"/*\"\nobject = \"x\"\n";
    assert_eq!(routes(&format!("{first}methods = [\"GET\"]{second}")).unwrap().len(), 2);
    assert_eq!(routes(&format!("{first}hosts = [\"a.de\"]{second}")).unwrap().len(), 2);
    assert!(routes(&format!("{first}{second}")).is_err());
}

#[test]
fn an_empty_file_lacks_everything() {
    assert_eq!(
        shown(""),
        r#"berth.toml:1:1: [[containers]] is missing in the file; expected at least one section with a class_name and an image
berth.toml:1:1: name is missing in the file; expected the app's name, such as name = "hello""#
    );
}

#[test]
fn unknown_keys_come_with_the_nearest_known_one() {
    let text = r#"
nmae = "hello"
[[containers]]
class = "Hello"
image = "./hello"
sleepAfter = "10m"
default_port = 8080
enable_internet = false
colour = "red"
instance_type = { vcpu = 1, memory = "1GiB", disk = "1GB", gpu = 1 }
[[routes]]
path = "/"
clas = "Hello"
object = "x"
"#;
    assert_eq!(
        shown(text),
        r#"berth.toml:1:1: name is missing in the file; expected the app's name, such as name = "hello"
berth.toml:2:1: `nmae` is not a key of the file; did you mean `name`?
berth.toml:3:1: class_name is missing in [[containers]]; expected a name such as class_name = "Hello"
berth.toml:4:1: `class` is not a key of [[containers]]; did you mean `class_name`?
berth.toml:6:1: `sleepAfter` is not a key of [[containers]]; did you mean `sleep_after`?
berth.toml:9:1: `colour` is not a key of [[containers]]; known are class_name, image, instance_type, disk_in_memory, start_boost, max_instances, prepared, regions, labels, spread, on_node_gone, node_loss, manual_start, default_port, required_ports, ping_endpoint, sleep_after, entrypoint, init, enable_internet, capabilities, start_timeout, port_timeout, stop_grace, wake_grace, env, secrets, hooks, callbacks
berth.toml:10:60: `gpu` is not a key of instance_type; known are vcpu, memory, disk
berth.toml:11:1: class is missing in [[routes]]; expected the class_name of a [[containers]] section
berth.toml:13:1: `clas` is not a key of [[routes]]; did you mean `class`?"#
    );
}

#[test]
fn every_bad_value_is_named_at_once() {
    let text = r#"
name = "-hello"
[[containers]]
class_name = "größe"
image = 7
instance_type = "standart"
max_instances = 0
default_port = 70000
sleep_after = "10 minuets"
entrypoint = []
enable_internet = "yes"
start_timeout = 0
port_timeout = "2h"
stop_grace = [1]
[containers.env]
PORT = 8080
"A=B" = "x"
[[routes]]
path = "container/{id}"
class = "Hello"
object = "{id}"
port = "80"
"#;
    assert_eq!(
        shown(text),
        r#"berth.toml:2:8: the name "-hello" holds the character '-', which is not allowed; expected up to 63 letters, digits, `-`, `_` and `.`, the first a letter or digit
berth.toml:4:14: the name "größe" holds the character 'ö', which is not allowed; expected up to 63 letters, digits, `-`, `_` and `.`, the first a letter or digit
berth.toml:5:9: found a whole number; expected a path (static binary, root directory, Dockerfile), "oci:" or "docker-archive:" and a path, a reference such as "ghcr.io/me/app:1", or "berth:" and an image of the edge in quotes
berth.toml:6:17: there is no instance type "standart"; did you mean "standard"?
berth.toml:7:17: 0 is out of range; expected a whole number from 1 to 1000000
berth.toml:8:16: 70000 is out of range; expected a whole number from 1 to 65535
berth.toml:9:15: "10 minuets" is not a duration; expected a number of seconds or a text such as "30s", "5m" or "1h"
berth.toml:10:14: names no program; expected a list of texts such as ["/app/hello", "--verbose"]
berth.toml:11:19: found a text; expected true or false
berth.toml:12:17: 0s is out of range; expected from 100ms to 1h
berth.toml:13:16: 2h is out of range; expected from 100ms to 1h
berth.toml:14:14: found a list; expected a number of seconds or a text such as "30s", "5m" or "1h"
berth.toml:16:8: found a whole number; expected the value in quotes
berth.toml:17:1: "A=B" cannot name a variable; expected a name without `=` and zero bytes
berth.toml:19:8: the path "container/{id}": must start with `/`; expected a path such as "/container/{id}" or "/files/*"
berth.toml:20:9: no [[containers]] section has the class_name "Hello"; expected one of the class_names in this file: größe
berth.toml:22:8: found a text; expected a whole number from 1 to 65535"#
    );
}

#[test]
fn sizes_and_shares_are_bounded() {
    let text = r#"
name = "a"
[[containers]]
class_name = "A"
image = "a"
instance_type = { vcpu = 0.3, memory = "512", disk = "1 furlong" }
default_port = 1
enable_internet = false
[[containers]]
class_name = "B"
image = ""
instance_type = { vcpu = 0, memory = "1KiB", disk = "1PB" }
default_port = 1
enable_internet = false
[[containers]]
class_name = "C"
image = "oci:"
instance_type = 5
default_port = 0x1F90
enable_internet = "no"
[[containers]]
class_name = "D"
image = "d"
instance_type = { vcpu = 1000, memory = 5 }
default_port = 1
enable_internet = false
"#;
    assert_eq!(
        shown(text),
        r#"berth.toml:6:26: 0.3 vCPU cannot be given; expected a multiple of 1/16 (0.0625) up to 256
berth.toml:6:40: "512" is not a size; expected a size such as "512MiB" or "2GB"
berth.toml:6:54: "1 furlong" is not a size; expected a size such as "512MiB" or "2GB"
berth.toml:11:9: "" is not a path; expected a path (static binary, root directory, Dockerfile), "oci:" or "docker-archive:" and a path, a reference such as "ghcr.io/me/app:1", or "berth:" and an image of the edge
berth.toml:12:26: 0 vCPU cannot be given; expected a multiple of 1/16 (0.0625) up to 256
berth.toml:12:38: "1KiB" is out of range; expected from 8.0 MiB to 1.0 TiB
berth.toml:12:53: "1PB" is out of range; expected from 1.0 MiB to 16.0 TiB
berth.toml:17:9: "oci:" is not a path; expected a path (static binary, root directory, Dockerfile), "oci:" or "docker-archive:" and a path, a reference such as "ghcr.io/me/app:1", or "berth:" and an image of the edge
berth.toml:18:17: found a whole number; expected a type's name such as "lite", or { vcpu = 0.25, memory = "512MiB", disk = "1GB" }
berth.toml:20:19: found a text; expected true or false
berth.toml:24:17: disk is missing in instance_type; expected a size such as disk = "1GB"
berth.toml:24:26: 1000 vCPU cannot be given; expected a multiple of 1/16 (0.0625) up to 256
berth.toml:24:41: found a whole number; expected a size such as "512MiB" or "2GB" in quotes"#
    );
}

#[test]
fn routes_and_classes_must_fit_together() {
    let text = r#"
name = "a"
[[containers]]
class_name = "Hello"
image = "a"
default_port = 1
enable_internet = false
[[containers]]
class_name = "Hello"
image = "b"
default_port = 1
enable_internet = false
[[routes]]
path = "/a/{id}"
class = "Helo"
object = "{name}"
[[routes]]
path = "/a/{id}"
class = "World"
object = "x{id}"
[[routes]]
path = "/{a}/{a}"
class = "Hello"
object = ""
"#;
    assert_eq!(
        shown(text),
        r#"berth.toml:9:14: the class "Hello" is there already, in line 4; expected another class_name
berth.toml:15:9: no [[containers]] section has the class_name "Helo"; did you mean "Hello"?
berth.toml:16:10: the path has no parameter {name}, nor has each of the hosts; expected one of its own
berth.toml:18:8: the path "/a/{id}" is routed already, in line 14; expected another path
berth.toml:19:9: no [[containers]] section has the class_name "World"; expected one of the class_names in this file: Hello
berth.toml:20:10: "x{id}" mixes a parameter with other text; expected a parameter of the path or host such as "{id}", or a constant name such as "main"
berth.toml:22:8: the path "/{a}/{a}": the parameter `{a}` appears twice; expected a path such as "/container/{id}" or "/files/*"
berth.toml:24:10: the name "" is empty; expected a parameter of the path or host such as "{id}", or a constant name such as "main""#
    );
}

#[test]
fn broken_syntax_does_not_hide_other_problems() {
    let text = "name = hello\n[[containers]]\nclass_name = \"A\"\nclass_name = \"B\"\nimage = \"x\"\ndefault_port = 0\nenable_internet = false\n[[routes]\npath = \"/\"\n";
    assert_eq!(
        shown(text),
        r#"berth.toml:1:8: string values must be quoted, expected literal string
berth.toml:4:1: duplicate key
berth.toml:6:16: 0 is out of range; expected a whole number from 1 to 65535
berth.toml:8:10: unclosed array table, expected `]`"#
    );
}

#[test]
fn sections_of_the_wrong_shape() {
    assert_eq!(
        shown("name = [\"a\"]\ncontainers = 1\nroutes = [1]\n"),
        r#"berth.toml:1:8: found a list; expected a name in quotes
berth.toml:2:14: `containers` must be sections written as [[containers]]
berth.toml:3:11: expected the section [[routes]], found a whole number"#
    );
    assert_eq!(
        shown("name = \"a\"\n[containers]\nclass_name = \"A\"\n"),
        "berth.toml:2:1: `containers` must be sections written as [[containers]]"
    );
}

#[test]
fn columns_count_characters() {
    let text = "name = \"a\"\n[[containers]]\nclass_name = \"A\"\nimage = \"größe\"; x\n";
    assert!(shown(text).contains("berth.toml:4:16:"), "{}", shown(text));
}

#[test]
fn the_environment_is_bounded_and_never_shown() {
    let secret = "s3cret".repeat(50_000);
    let text = format!("{SMALLEST}[containers.env]\nTOKEN = \"{secret}\"\n");
    assert_eq!(
        shown(&text),
        "berth.toml:7:1: the environment takes 300005 bytes; expected at most 262144 for all names and values"
    );
    let manifest = parse(&format!("{SMALLEST}[containers.env]\nTOKEN = \"s3cret\"\n")).unwrap();
    assert!(!format!("{manifest:?}").contains("s3cret"));
    assert!(!shown(&format!("{SMALLEST}[containers.env]\nTOKEN = \"s3\\u0000cret\"\n")).contains("cret"));
}

#[test]
fn images_are_told_even_of_a_wrong_file_and_callers_add_in_order() {
    let mut reading = Manifest::read(Path::new("berth.toml"), &SMALLEST.replace("hello\"\n[", "-\"\n["));
    assert_eq!(reading.images.len(), 1);
    reading.problems.add(reading.images[0].position, "no such file; expected one");
    let places: Vec<_> = reading.problems.iter().map(|problem| problem.position.line).collect();
    assert_eq!(places, [2, 5]);
    assert!(reading.finish().is_err());
    let mut reading = Manifest::read(Path::new("berth.toml"), SMALLEST);
    reading.problems.add(Position { line: 1, column: 1 }, "no");
    assert!(reading.finish().is_err(), "what the caller adds counts");
}

#[test]
fn a_flood_of_problems_is_cut() {
    let text: String = (0..500).map(|i| format!("key{i} = 1\n")).collect();
    let lines: Vec<String> = shown(&text).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 101);
    assert_eq!(lines[100], "berth.toml: and 402 more");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(\\[\\[containers\\]\\]\n|name = |image|=|\"|\n|[a-zä{}\\[\\].0-9]){0,40}") {
        if let Err(problems) = parse(&text) {
            prop_assert!(!problems.to_string().is_empty());
        }
    }

    #[test]
    fn a_full_file_cut_anywhere_is_read_or_refused(cut in 0..FULL.len()) {
        let _ = parse(&FULL[..cut]);
    }
}

/// A file with one class, with more in its section and behind it.
fn with(class: &str, behind: &str) -> Result<Manifest, Problems> {
    let text = format!(
        "name = \"a\"\n[[containers]]\nclass_name = \"A\"\nimage = \"./a\"\ndefault_port = 80\n{class}\n{behind}\n"
    );
    Manifest::parse(Path::new("berth.toml"), &text)
}
