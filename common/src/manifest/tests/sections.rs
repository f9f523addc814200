//! The sections of an app besides its containers' sizes and its routes: variables, rates, limits, logs, checks, hooks,
//! crons and secrets.

use super::*;

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
