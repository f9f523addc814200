//! Whole files, right and wrong: wrong ones with all that a person is shown.

use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::image::Digest;
use crate::spec::{Action, NameSource, Rate, RouteSpec};

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

#[test]
fn the_smallest_file_has_the_defaults() {
    let manifest = parse(SMALLEST).unwrap();
    let class = &manifest.classes[0];
    assert_eq!(class.image.source, ImageSource::Path("./hello".into()));
    assert_eq!(class.image.position, Position { line: 5, column: 9 });
    assert_eq!(Some(class.resources), Resources::of_type("lite"));
    assert_eq!((class.max_instances, &class.entrypoint), (None, &None));
    let times = [class.sleep_after, class.start_timeout, class.port_timeout, class.stop_grace];
    assert_eq!(times.map(|time| time.as_secs()), [600, 8, 20, 900]);
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
    let times = [class.sleep_after, class.start_timeout, class.port_timeout, class.stop_grace];
    assert_eq!(times.map(|time| time.as_millis()), [90_000, 1_500, 2_500, 0]);
    assert_eq!(class.recipe.entrypoint.as_deref(), Some(&["/app/hello".to_owned(), "--loud".to_owned()][..]));
    assert_eq!(class.recipe.env.get("GREETING").map(String::as_str), Some("hi"));
    assert_eq!(spec.routes[0].object, NameSource::PathParameter("id".into()));
    assert_eq!((spec.routes[0].port, spec.routes[1].port), (Some(9090), None));
    assert_eq!(spec.routes[1].object, NameSource::Constant("the only one".parse().unwrap()));
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
berth.toml:9:1: `colour` is not a key of [[containers]]; known are class_name, image, instance_type, disk_in_memory, start_boost, max_instances, prepared, manual_start, default_port, required_ports, ping_endpoint, sleep_after, entrypoint, enable_internet, capabilities, start_timeout, port_timeout, stop_grace, env, secrets, hooks, callbacks
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

#[test]
fn variables_of_the_app_are_those_of_each_class_that_has_no_own() {
    let manifest = with("env = { A = \"own\" }", "[vars]\nA = \"all\"\nB = \"all\"").unwrap();
    let env = &manifest.classes[0].env;
    assert_eq!((env["A"].as_str(), env["B"].as_str()), ("own", "all"));
}

#[test]
fn new_objects_have_a_rate_that_can_be_changed_and_turned_off() {
    let of = |text: &str| with("", &format!("[start_rate]\n{text}")).map(|manifest| manifest.start_rate);
    let rate = |per_minute, burst| Some(Rate { per_minute, burst });
    assert_eq!(with("", "").unwrap().start_rate, StartRates::default());
    assert_eq!(StartRates::default().per_address, rate(60, 120));
    let all =
        of("per_address = \"off\"\nper_class = { per_minute = 5 }\nper_app = { per_minute = 7, burst = 1 }");
    let expected = StartRates { per_address: None, per_class: rate(5, 10), per_app: rate(7, 1) };
    assert_eq!(all.unwrap(), expected);
    for bad in [
        "per_address = 60",
        "per_address = \"on\"",
        "per_app = { burst = 1 }",
        "per_class = { per_minute = 0 }",
        "x = 1",
    ] {
        assert!(of(bad).is_err(), "{bad}");
    }
}

#[test]
fn limits_are_those_of_the_reference_unless_given() {
    assert_eq!(with("", "").unwrap().limits, AppLimits::default());
    let limits = with("", "[limits]\nvcpu = 2.5\ndisk = \"1GB\"").unwrap().limits;
    assert_eq!((limits.cpu_sixteenths, limits.disk_bytes), (40, 1_000_000_000));
    assert_eq!(limits.memory_bytes, AppLimits::default().memory_bytes);
    assert!(with("", "[limits]\nvcpu = 0.3").is_err() && with("", "limits = 3").is_err());
}

#[test]
fn output_is_kept_for_a_week_unless_given_and_within_bounds() {
    assert_eq!(with("", "").unwrap().logs, LogSpec::default());
    let logs = with("", "[observability]\nlog_retention = \"2h\"\nlog_size = \"64KiB\"").unwrap().logs;
    assert_eq!(logs, LogSpec { enabled: true, retention: Duration::from_secs(7200), bytes: 64 << 10 });
    assert!(!with("", "[observability]\nenabled = false").unwrap().logs.enabled);
    for bad in [
        "log_retention = \"59m\"",
        "log_retention = \"31d\"",
        "log_size = \"63KiB\"",
        "enabled = 1",
        "size = 1",
    ] {
        assert!(with("", &format!("[observability]\n{bad}")).is_err(), "{bad}");
    }
}

#[test]
fn what_must_answer_before_requests_are_sent_is_checked() {
    let class = &with("required_ports = [81]\nping_endpoint = \"/ok\"", "").unwrap().classes[0];
    assert_eq!((&class.required_ports[..], class.ping_endpoint.as_deref()), (&[81][..], Some("/ok")));
    for bad in
        ["required_ports = [0]", "required_ports = 81", "ping_endpoint = \"ok\"", "ping_endpoint = \"/a b\""]
    {
        assert!(with(bad, "").is_err(), "{bad}");
    }
}

#[test]
fn only_a_path_with_a_star_can_be_rewritten() {
    let route = |path: &str| {
        with("", &format!("[[routes]]\npath = \"{path}\"\nclass = \"A\"\nobject = \"x\"\nrewrite = \"/\""))
    };
    assert_eq!(route("/a/*").unwrap().routes[0].rewrite.as_deref(), Some("/"));
    assert!(route("/a").unwrap_err().to_string().contains("ends with `/*`"));
}

#[test]
fn hooks_and_callbacks_are_read() {
    let hooks = "[containers.hooks]\nurl = \"https://example.com/h\"\nsecret = \"KEY\"\n";
    let callbacks = "[containers.callbacks.clean]\npath = \"/clean\"\n[containers.callbacks.tell]\nhook = true\n\
                     [containers.callbacks.go]\nenv = { AT = \"{scheduled_time}\" }\n";
    let class = &with("", &format!("{hooks}{callbacks}")).unwrap().classes[0];
    let told = class.hooks.as_ref().unwrap();
    assert_eq!(
        (told.url.as_str(), told.secret.as_str(), told.events.len()),
        ("https://example.com/h", "KEY", 3)
    );
    let action = |name: &str| &class.callbacks[&name.parse::<crate::ids::CallbackName>().unwrap()];
    assert!(matches!(action("clean"), Action::Request(r) if r.method == "POST" && r.path == "/clean"));
    assert_eq!(action("tell"), &Action::Hook);
    assert!(matches!(action("go"), Action::Start { env } if env.len() == 1));
    for (bad, word) in [
        ("[containers.hooks]\nurl = \"https://x\"", "secret is missing"),
        ("[containers.hooks]\nurl = \"x\"\nsecret = \"K\"", "must start with https://"),
        (
            "[containers.hooks]\nurl = \"https://x\"\nsecret = \"K\"\nevents = [\"stp\"]",
            "did you mean \"stop\"?",
        ),
        ("[containers.callbacks.a]\nhook = true", "[containers.hooks]"),
        ("[containers.callbacks.a]", "must say what is done"),
        ("[containers.callbacks.a]\npath = \"/x\"\nhook = true", "must say what is done"),
        ("[containers.callbacks.a]\npath = \"/x\"\nmethod = \"post\"", "is none of"),
        ("[containers.callbacks.\"-a\"]\nstart = true", "not allowed"),
    ] {
        let problems = with("", bad).unwrap_err().to_string();
        assert!(problems.contains(word), "{bad}: {problems}");
    }
}

#[test]
fn crons_name_an_object_and_what_is_done() {
    let crons =
        |text: &str| with("", &format!("[triggers]\ncrons = [{text}]")).map(|manifest| manifest.crons);
    let short = &crons("\"*/2 * * * *\"").unwrap()[0];
    assert_eq!((short.class.as_str(), short.object.as_str()), ("A", "cron"));
    assert!(matches!(&short.action, Action::Start { env } if env.is_empty()));
    let long = "{ cron = \"0 3 * * *\", class = \"A\", object = \"night\", path = \"/run\", port = 81 }";
    let long = &crons(long).unwrap()[0];
    assert!(matches!(&long.action, Action::Request(request) if request.port == Some(81)));
    for (bad, word) in [
        ("\"* * * *\"", "five fields"),
        ("\"0 0 31 2 *\"", "never comes"),
        ("{ cron = \"* * * * *\", class = \"B\", start = true }", "no [[containers]] section"),
        ("{ cron = \"* * * * *\" }", "must say what is done"),
        ("{ cron = \"* * * * *\", hook = true }", "[containers.hooks]"),
    ] {
        let problems = crons(bad).unwrap_err().to_string();
        assert!(problems.contains(word), "{bad}: {problems}");
    }
}

#[test]
fn a_class_without_a_port_takes_requests_only_where_they_name_one() {
    let parse = |more: &str| {
        let text = format!("name = \"a\"\n[[containers]]\nclass_name = \"A\"\nimage = \"./a\"\n{more}");
        Manifest::parse(Path::new("berth.toml"), &text)
    };
    assert_eq!(parse("").unwrap().classes[0].default_port, None);
    let route = "[[routes]]\npath = \"/x\"\nclass = \"A\"\nobject = \"x\"\n";
    assert!(parse(route).unwrap_err().to_string().contains("has no default_port"));
    assert!(parse(&format!("{route}port = 81")).is_ok());
    assert!(parse("ping_endpoint = \"/\"").unwrap_err().to_string().contains("default_port"));
}

#[test]
fn secrets_are_listed_or_named_for_their_variables() {
    let secrets = |text: &str| {
        let class = with(text, "").unwrap().classes.remove(0);
        class.secrets.into_iter().map(|(variable, secret)| format!("{variable}={secret}")).collect::<Vec<_>>()
    };
    assert_eq!(secrets("secrets = [\"B\", \"A\"]"), ["A=A", "B=B"]);
    assert_eq!(
        secrets("[containers.secrets]\nKEY = \"API_KEY\"\nSAME = \"API_KEY\""),
        ["KEY=API_KEY", "SAME=API_KEY"]
    );
    assert!(secrets("").is_empty());
}

#[test]
fn a_secret_is_no_other_variable_of_its_class_and_has_a_proper_name() {
    for (class, line, word) in [
        ("env = { A = \"1\" }\nsecrets = [\"B\", \"A\"]", 7, "in env too"),
        ("secrets = [\"A\", \"A\"]", 6, "there already"),
        ("secrets = [\"A-B\"]", 6, "'-'"),
        ("secrets = { \"1\" = \"A\" }", 6, "'1'"),
        ("secrets = { A = 1 }", 6, "the name of the secret"),
        ("secrets = \"A\"", 6, "a list such as"),
    ] {
        let problems = with(class, "").unwrap_err();
        let problem = problems.iter().next().unwrap();
        assert_eq!(problem.position.line, line, "{problems}");
        assert!(problem.message.contains(word), "{problems}");
    }
}

#[test]
fn a_secret_takes_the_place_of_a_variable_of_the_app() {
    let class =
        with("secrets = [\"MODE\"]", "[vars]\nMODE = \"a\"\nOTHER = \"b\"").unwrap().classes.remove(0);
    assert_eq!(class.env.into_keys().collect::<Vec<_>>(), ["OTHER"]);
}
