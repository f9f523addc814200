//! Containers of objects: what code may do with them, what it orders, and what it is told.

use serde_bytes::ByteBuf;

use super::edge::{Edge, contained};
use crate::message::container::{
    self, CONNECTION_LOST, Change, Ended, LABEL_NAME_BYTES, LABEL_VALUE_BYTES, LABELS, NO_INSTANCE,
    NOT_RUNNING, Order, START_BYTES, Start, TOO_FAST, TOO_MANY,
};
use crate::message::{BodyRef, Destination, Effect, Event, EventId, ObjectId, OpId, Response, ScriptError};

/// Calls the method that the path names, with the query's argument as JavaScript has it, and tells what it comes to.
const CALL: &str = "const name = url.pathname.slice(1);
    const given = JSON.parse(url.searchParams.get('with') ?? '[]');
    try { return json(await stub[name](...given)); } catch (error) { return json([error.name, error.message, null]); }";

/// What most tests call.
const MEMBERS: &str = "get c() { return this.ctx.container; }
    running() { return this.c.running; }
    start(options) { const before = this.c.running; const given = this.c.start(options); return [before, this.c.running, typeof given]; }
    async monitor() { try { return await this.c.monitor(); } catch (error) { return [error.name, error.message, error.exitCode ?? null]; } }
    async destroy(text) { await this.c.destroy(text === undefined ? undefined : new RangeError(text)); return this.c.running; }
    signal(n) { return typeof this.c.signal(n); }
    port(n) { return typeof this.c.getTcpPort(n).fetch; }
    async ask(port, url, init) { const response = await this.c.getTcpPort(port).fetch(url, init); return [response.status, response.webSocket, await response.text()]; }
    keep(ms) { return this.c.setInactivityTimeout(ms); }";

fn edge() -> Edge {
    contained(MEMBERS, CALL)
}

fn with(path: &str, args: &str) -> String {
    let escaped: String = args.bytes().map(|byte| format!("%{byte:02x}")).collect();
    format!("/{path}?with={escaped}")
}

fn orders(edge: &Edge) -> Vec<Order> {
    let orders = edge.seen.iter().filter_map(|effect| match effect {
        Effect::Container(_, order) => Some(order.clone()),
        _ => None,
    });
    orders.collect()
}

fn only(edge: &Edge) -> ObjectId {
    edge.only().0
}

fn ended(edge: &mut Edge, how: Ended) {
    let id = only(edge);
    edge.give(Event::Container(id, Change::Ended(how)));
}

fn outcome(edge: &Edge, event: EventId) -> String {
    edge.outcome(event).expect("an outcome").expect("a response")
}

/// The last request to a port: its number, the port, whether it asks for a WebSocket, its URL.
fn asked(edge: &Edge) -> (OpId, u16, bool, String) {
    let asked = edge.seen.iter().rev().find_map(|effect| match effect {
        Effect::Fetch { op, destination: Destination::Port { object, port, upgrade }, request, .. } => {
            assert!(*object == only(edge));
            Some((*op, *port, *upgrade, request.url.clone()))
        }
        _ => None,
    });
    asked.expect("a request to a port")
}

fn fail(edge: &mut Edge, op: OpId, text: &str) {
    edge.give(Event::Completed { op, outcome: Err(ScriptError::new("Error", text)) });
}

#[test]
fn start_gives_its_order_at_once_and_only_once() {
    let mut edge = edge();
    assert_eq!(edge.get("/running"), "false");
    assert_eq!(edge.get("/start"), r#"[false,true,"undefined"]"#);
    assert_eq!(orders(&edge), [Order::Start(Box::default())]);
    assert_eq!(edge.get("/running"), "true");
    let again = r#"["Error","start() cannot be called on a container that is already running.",null]"#;
    assert_eq!(edge.get("/start"), again);
    assert_eq!(orders(&edge).len(), 1);
}

#[test]
fn start_says_what_it_was_given() {
    let mut edge = edge();
    let given =
        r#"[{"enableInternet":true,"env":{"A":"1","B":2},"entrypoint":["a","b c"],"labels":{"team":"é"}}]"#;
    edge.get(&with("start", given));
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let start = Start {
        env: vec![pair("A", "1"), pair("B", "2")],
        entrypoint: Some(vec!["a".to_owned(), "b c".to_owned()]),
        enable_internet: true,
        labels: vec![pair("team", "é")],
    };
    assert_eq!(orders(&edge), [Order::Start(Box::new(start))]);
}

#[test]
fn start_refuses_what_cannot_be_with_the_texts_of_the_reference() {
    let mut edge = edge();
    let label = |name: usize, value: usize| {
        format!(r#"[{{"labels":{{"{}":"{}"}}}}]"#, "n".repeat(name), "v".repeat(value))
    };
    let many = (0..=LABELS).map(|at| format!(r#""l{at}":"""#)).collect::<Vec<_>>().join(",");
    let cases = [
        (r#"[{"env":{"A=B":"1"}}]"#.to_owned(), "Error", "Environment variable names cannot contain '=': A=B".to_owned()),
        (r#"[{"env":{"A\u0000":"1"}}]"#.to_owned(), "Error", "Environment variable names cannot contain '\\\\0': A\\u0000".to_owned()),
        (r#"[{"env":{"A":"\u0000"}}]"#.to_owned(), "Error", "Environment variable values cannot contain '\\\\0': A".to_owned()),
        (format!(r#"[{{"labels":{{{many}}}}}]"#), "Error", "Cannot specify more than 10 container labels".to_owned()),
        (label(0, 1), "Error", "Label names cannot be empty".to_owned()),
        (label(LABEL_NAME_BYTES + 1, 1), "Error", "Label names cannot exceed 16 bytes (index 0)".to_owned()),
        (label(1, LABEL_VALUE_BYTES + 1), "Error", "Label values cannot exceed 64 bytes (index 0)".to_owned()),
        (r#"[{"labels":{"a":"","b\n":""}}]"#.to_owned(), "Error", "Label names cannot contain control characters (index 1)".to_owned()),
        (r#"[{"labels":{"a":"\t"}}]"#.to_owned(), "Error", "Label values cannot contain control characters (index 0)".to_owned()),
        (r#"[{"image":"x"}]"#.to_owned(), "Error", "start() with 'image' is not supported by this version of Berth.".to_owned()),
        (r#"[{"hardTimeout":1}]"#.to_owned(), "Error", "start() with 'hardTimeout' is not supported by this version of Berth.".to_owned()),
        (r#"[{"entrypoint":"sh"}]"#.to_owned(), "TypeError", "Incorrect type for the 'entrypoint' field on 'ContainerStartupOptions': the provided value is not of type 'Array'.".to_owned()),
    ];
    for (given, name, text) in cases {
        assert_eq!(edge.get(&with("start", &given)), format!(r#"["{name}","{text}",null]"#));
    }
    assert!(orders(&edge).is_empty());
    assert_eq!(edge.get("/running"), "false");
    edge.get(&with("start", &label(LABEL_NAME_BYTES, LABEL_VALUE_BYTES)));
    assert_eq!(orders(&edge).len(), 1);
}

#[test]
fn what_a_start_carries_is_bounded() {
    let mut edge = contained(
        "start(bytes) { this.ctx.container.start({ env: { A: 'x'.repeat(bytes) } }); return 'started'; }",
        CALL,
    );
    let beyond = edge.get(&with("start", &format!("[{START_BYTES}]")));
    assert_eq!(beyond, r#"["RangeError","What start() is given has more than 128 KiB.",null]"#);
    assert!(orders(&edge).is_empty());
    assert_eq!(edge.get(&with("start", &format!("[{}]", START_BYTES - 33))), r#""started""#);
    assert_eq!(orders(&edge).len(), 1);
}

#[test]
fn options_that_start_the_container_while_they_are_read_start_it_once() {
    let mut edge = contained(
        "twice() { const { container } = this.ctx; container.start({ get env() { container.start(); return {}; } }); }",
        CALL,
    );
    let again = r#"["Error","start() cannot be called on a container that is already running.",null]"#;
    assert_eq!(edge.get("/twice"), again);
    assert_eq!(orders(&edge).len(), 1);
}

#[test]
fn running_is_right_in_the_constructor_and_monitor_may_begin_there() {
    let mut edge = contained(
        "constructor(ctx, env) { super(ctx, env); this.first = ctx.container.running; if (this.first) ctx.container.monitor().then(() => console.log('ended'), () => {}); }
        first() { return this.first; } was() { return [this.first, this.ctx.container.running]; }",
        CALL,
    );
    assert_eq!(edge.get("/was"), "[false,false]");
    let id = only(&edge);
    edge.give(Event::Drop(id, None));
    edge.running.insert(id);
    assert_eq!(edge.get("/was"), "[true,true]");
    ended(&mut edge, Ended::Exited(0));
    assert_eq!((edge.get("/was"), edge.lines()), ("[true,false]".to_owned(), vec!["ended"]));
}

#[test]
fn monitor_tells_how_it_ended_also_afterwards_until_the_next_start() {
    let cases = [
        (Ended::Exited(0), "null".to_owned()),
        (Ended::Exited(3), r#"["Error","Container exited with unexpected exit code: 3",3]"#.to_owned()),
        (
            Ended::Signalled(9),
            r#"["Error","Container exited with unexpected exit code: 137",137]"#.to_owned(),
        ),
        (Ended::Stopped(0), r#"["Error","runtime signalled the container to exit: 0",0]"#.to_owned()),
        (Ended::Stopped(143), r#"["Error","runtime signalled the container to exit: 143",143]"#.to_owned()),
        (
            Ended::NotStarted(format!("{NO_INSTANCE}: {TOO_MANY}")),
            format!(r#"["Error","{NO_INSTANCE}: {TOO_MANY}",null]"#),
        ),
        (Ended::NotStarted(TOO_FAST.to_owned()), format!(r#"["Error","{TOO_FAST}",null]"#)),
        (Ended::Lost("The node is gone.".to_owned()), r#"["Error","The node is gone.",null]"#.to_owned()),
    ];
    let mut edge = edge();
    let never = r#"["Error","monitor() cannot be called on a container that is not running.",null]"#;
    assert_eq!(edge.get("/monitor"), never);
    for (how, told) in cases {
        assert_eq!(edge.get("/start"), r#"[false,true,"undefined"]"#);
        let (one, other) = (edge.request("/monitor"), edge.request("/monitor"));
        assert!(edge.outcome(one).is_none());
        ended(&mut edge, how);
        assert_eq!((outcome(&edge, one), outcome(&edge, other)), (told.clone(), told.clone()));
        assert_eq!((edge.get("/running"), edge.get("/monitor")), ("false".to_owned(), told));
    }
}

#[test]
fn destroy_kills_once_and_comes_back_when_nothing_runs() {
    let mut edge = edge();
    assert_eq!((edge.get("/destroy"), orders(&edge)), ("false".to_owned(), Vec::new()));
    edge.get("/start");
    let monitor = edge.request("/monitor");
    let (one, other) = (edge.request("/destroy"), edge.request("/destroy"));
    assert_eq!(orders(&edge)[1..], [Order::Destroy]);
    assert!(edge.outcome(one).is_none());
    assert_eq!(edge.get("/running"), "true");
    ended(&mut edge, Ended::Signalled(9));
    assert_eq!((outcome(&edge, one), outcome(&edge, other)), ("false".to_owned(), "false".to_owned()));
    assert_eq!(outcome(&edge, monitor), r#"["Error","Container exited with unexpected exit code: 137",137]"#);
    // The next run is another: it can be killed again.
    edge.get("/start");
    edge.request("/destroy");
    assert_eq!(orders(&edge)[3..], [Order::Destroy]);
}

#[test]
fn what_destroy_is_given_comes_out_of_monitor_for_this_run_alone() {
    let mut edge = contained(
        "error = new RangeError('enough'); start() { this.ctx.container.start(); }
        kill() { return this.ctx.container.destroy(this.error); }
        again() { return this.ctx.container.destroy(new Error('later')); }
        async same() { try { await this.ctx.container.monitor(); return 'resolved'; } catch (error) { return error === this.error; } }",
        CALL,
    );
    edge.get("/start");
    let same = edge.request("/same");
    edge.request("/kill");
    edge.request("/again");
    ended(&mut edge, Ended::Signalled(9));
    assert_eq!((outcome(&edge, same), edge.get("/same")), ("true".to_owned(), "true".to_owned()));
    edge.get("/start");
    let next = edge.request("/same");
    ended(&mut edge, Ended::Exited(0));
    assert_eq!(outcome(&edge, next), r#""resolved""#);
    assert!(edge.lines().is_empty(), "{:?}", edge.lines());
}

#[test]
fn signals_go_to_what_runs() {
    let mut edge = edge();
    let none = r#"["Error","signal() cannot be called on a container that is not running.",null]"#;
    assert_eq!(edge.get(&with("signal", "[15]")), none);
    edge.get("/start");
    for wrong in ["[0]", "[65]", "[-1]", "[null]", "[]", r#"["x"]"#] {
        assert_eq!(edge.get(&with("signal", wrong)), r#"["RangeError","Invalid signal number.",null]"#);
    }
    for right in [1, 15, 64] {
        assert_eq!(edge.get(&with("signal", &format!("[{right}]"))), r#""undefined""#);
    }
    assert_eq!(orders(&edge)[1..], [Order::Signal(1), Order::Signal(15), Order::Signal(64)]);
    assert_eq!(edge.get("/running"), "true");
}

#[test]
fn ports_have_numbers_and_outlive_runs() {
    let mut edge = edge();
    for (given, text) in [("[0]", "0"), ("[65536]", "65536"), ("[-1]", "-1"), ("[]", "0")] {
        let told = format!(r#"["TypeError","Invalid port number: {text}",null]"#);
        assert_eq!(edge.get(&with("port", given)), told);
    }
    assert_eq!(edge.get(&with("port", "[65535]")), r#""function""#);
    let mut edge = contained(
        "port = this.ctx.container.getTcpPort(8080); start() { this.ctx.container.start(); }
        async ask() { return (await this.port.fetch('http://x/a')).text(); }",
        CALL,
    );
    for _ in 0..2 {
        assert_eq!(edge.get("/ask"), format!(r#"["Error","{NOT_RUNNING}",null]"#));
        edge.get("/start");
        let asked_for = edge.request("/ask");
        let (op, port, upgrade, url) = asked(&edge);
        assert_eq!((port, upgrade, &url[..]), (8080, false, "http://x/a"));
        edge.answer(op, "hello");
        assert_eq!(outcome(&edge, asked_for), r#""hello""#);
        ended(&mut edge, Ended::Exited(0));
    }
}

#[test]
fn requests_to_ports_fail_with_the_texts_that_programs_look_for() {
    let mut edge = edge();
    edge.get("/start");
    let texts =
        [container::not_listening("10.0.0.1", 8081), CONNECTION_LOST.to_owned(), NOT_RUNNING.to_owned()];
    assert_eq!(
        texts[0],
        "The container is not listening in the TCP address 10.0.0.1:8081. Container is not listening to port 8081"
    );
    for text in texts {
        let event = edge.request(&with("ask", r#"[8081,"http://x/"]"#));
        let op = asked(&edge).0;
        fail(&mut edge, op, &text);
        assert_eq!(outcome(&edge, event), format!(r#"["Error","{text}",null]"#));
    }
    let tls = edge.get(&with("ask", r#"[8081,"https://x/"]"#));
    assert!(
        tls.contains("Connecting to a container using HTTPS is not currently supported; use HTTP instead.")
    );
    let relative = edge.get(&with("ask", r#"[8081,"/x"]"#));
    assert_eq!(relative, r#"["TypeError","Invalid URL: /x",null]"#);
}

#[test]
fn a_response_without_content_has_no_body_and_no_socket() {
    let mut edge = contained(
        "start() { this.ctx.container.start(); } async ask() { const r = await this.ctx.container.getTcpPort(80).fetch('http://x/'); return [r.status, r.body, r.webSocket]; }",
        CALL,
    );
    edge.get("/start");
    let event = edge.request("/ask");
    let response =
        Response { status: 204, status_text: String::new(), headers: Vec::new(), body: BodyRef::None };
    let op = asked(&edge).0;
    edge.give(Event::Completed { op, outcome: Ok(response) });
    assert_eq!(outcome(&edge, event), "[204,null,null]");
}

#[test]
fn redirects_of_a_port_are_followed_there_unless_a_request_is_only_passed_on() {
    let mut edge = contained(
        "start() { this.ctx.container.start(); } async own() { const r = await this.ctx.container.getTcpPort(80).fetch('http://x/a'); return [r.status, await r.text()]; }
        async fetch(request) { return this.ctx.container.getTcpPort(80).fetch(request.url, request); }",
        "if (url.pathname === '/pass') return stub.fetch(request);
        const name = url.pathname.slice(1); return json(await stub[name]());",
    );
    let redirect = || {
        let headers = vec![("location".to_owned(), "/b".to_owned())];
        Ok(Response {
            status: 302,
            status_text: String::new(),
            headers,
            body: BodyRef::Bytes(ByteBuf::new()),
        })
    };
    edge.get("/start");
    let own = edge.request("/own");
    let op = asked(&edge).0;
    edge.give(Event::Completed { op, outcome: redirect() });
    let (op, port, _, url) = asked(&edge);
    assert_eq!((port, &url[..]), (80, "http://x/b"));
    edge.answer(op, "there");
    assert_eq!(outcome(&edge, own), r#"[200,"there"]"#);
    let passed = edge.request("/pass");
    let op = asked(&edge).0;
    edge.give(Event::Completed { op, outcome: redirect() });
    let status = edge.seen.iter().find_map(|effect| match effect {
        Effect::Responded(event, response) if *event == passed => Some(response.status),
        _ => None,
    });
    assert_eq!(status, Some(302));
}

#[test]
fn an_aborted_request_to_a_port_is_given_up() {
    let mut edge = contained(
        "start() { this.ctx.container.start(); }
        ask() { return this.ctx.container.getTcpPort(80).fetch('http://x/', { signal: AbortSignal.timeout(5000) }); }",
        CALL,
    );
    edge.get("/start");
    let event = edge.request("/ask");
    let op = asked(&edge).0;
    edge.pass(5000);
    assert!(edge.seen.contains(&Effect::Cancel(op)));
    assert!(outcome(&edge, event).starts_with(r#"["TimeoutError""#));
}

#[test]
fn a_request_for_a_socket_says_so() {
    let mut edge = edge();
    edge.get("/start");
    let event = edge.request(&with("ask", r#"[80,"http://x/ws",{"headers":{"Upgrade":"WebSocket"}}]"#));
    let (op, _, upgrade, _) = asked(&edge);
    assert!(upgrade);
    let response =
        Response { status: 101, status_text: String::new(), headers: Vec::new(), body: BodyRef::None };
    edge.give(Event::Completed { op, outcome: Ok(response) });
    assert_eq!(
        outcome(&edge, event),
        r#"["Error","The server switched to another protocol than WebSocket.",null]"#
    );
}

#[test]
fn the_time_without_an_object_is_told() {
    let mut edge = edge();
    for wrong in ["[0]", "[-5]", "[]", r#"["x"]"#] {
        let text = "setInactivityTimeout() cannot be called with a durationMs <= 0";
        assert_eq!(edge.get(&with("keep", wrong)), format!(r#"["TypeError","{text}",null]"#));
    }
    assert_eq!(edge.get(&with("keep", "[1500]")), "null");
    assert_eq!(orders(&edge), [Order::KeepFor(1500)]);
}

#[test]
fn nothing_of_it_leaves_before_what_was_written_is_durable() {
    let mut edge = contained(
        "run() { const { container, storage } = this.ctx; storage.put('k', 1); container.start(); container.signal(1); container.getTcpPort(80).fetch('http://x/'); container.destroy(); return container.running; }
        alone() { this.ctx.container.start(); return 1; }",
        CALL,
    );
    edge.prompt = false;
    let event = edge.request("/run");
    assert!(edge.seen.iter().all(|effect| matches!(effect, Effect::Log { .. })), "{:?}", edge.seen);
    edge.commit();
    assert_eq!(outcome(&edge, event), "true");
    assert_eq!(orders(&edge), [Order::Start(Box::default()), Order::Signal(1), Order::Destroy]);
    assert_eq!(asked(&edge).1, 80);
}

#[test]
fn a_start_that_was_held_back_does_not_leave_when_the_commit_fails() {
    let mut edge = contained(
        "run() { this.ctx.storage.put('k', 1); this.ctx.container.start(); return 1; } running() { return this.ctx.container.running; }",
        CALL,
    );
    edge.prompt = false;
    edge.request("/run");
    let (object, sequence, _) = edge.commits.remove(0);
    edge.give(Event::CommitFailed(object, sequence));
    assert_eq!((orders(&edge), edge.get("/running")), (Vec::new(), "false".to_owned()));
}

#[test]
fn the_end_is_seen_at_once_and_who_waits_goes_on_by_the_gate() {
    let mut edge = contained(
        "start() { this.ctx.container.start(); this.ctx.container.monitor().then(() => console.log('outside')); }
        section() { return this.ctx.blockConcurrencyWhile(async () => { await this.ctx.container.monitor(); console.log('inside ' + this.ctx.container.running); await scheduler.wait(5); console.log('left'); }); }",
        CALL,
    );
    edge.get("/start");
    edge.request("/section");
    ended(&mut edge, Ended::Exited(0));
    assert_eq!(edge.lines(), ["inside false"]);
    edge.pass(5);
    assert_eq!(edge.lines(), ["inside false", "left", "outside"]);
}

#[test]
fn a_container_that_runs_by_itself_is_seen_to() {
    let mut edge = edge();
    edge.get("/running");
    let id = only(&edge);
    for _ in 0..2 {
        edge.give(Event::Container(id, Change::Running));
        assert_eq!(edge.get("/running"), "true");
    }
    let monitor = edge.request("/monitor");
    ended(&mut edge, Ended::Exited(0));
    // What is not expected changes nothing.
    ended(&mut edge, Ended::Exited(1));
    assert_eq!((outcome(&edge, monitor), edge.get("/monitor")), ("null".to_owned(), "null".to_owned()));
}

#[test]
fn an_object_whose_code_waits_for_the_end_stays() {
    let mut edge = contained(
        "start() { this.ctx.container.start(); this.ctx.container.monitor(); } other() { return 1; }",
        CALL,
    );
    edge.get("/start");
    let id = only(&edge);
    edge.give(Event::Drop(id, None));
    assert!(!edge.seen.contains(&Effect::Dropped(id)));
    ended(&mut edge, Ended::Exited(0));
    edge.give(Event::Drop(id, None));
    assert!(edge.seen.contains(&Effect::Dropped(id)));
}

#[test]
fn the_end_of_an_object_that_is_gone_is_nobodys() {
    let mut edge = contained(
        "start() { this.ctx.container.start(); this.ctx.container.monitor(); } reset() { this.ctx.abort(); } was() { return this.ctx.container.running; }",
        CALL,
    );
    edge.get("/start");
    edge.request("/reset");
    let id = only(&edge);
    ended(&mut edge, Ended::Exited(0));
    edge.running.insert(id);
    assert_eq!(edge.get("/was"), "true");
}

#[test]
fn a_class_without_containers_has_none() {
    let mut edge = super::edge::with("has() { return typeof this.ctx.container; }", CALL);
    assert_eq!(edge.get("/has"), r#""undefined""#);
    let id = only(&edge);
    edge.give(Event::Container(id, Change::Running));
    assert_eq!(edge.get("/has"), r#""undefined""#);
}

#[test]
fn another_objects_container_is_out_of_reach() {
    let mut edge = contained(
        "keep() { globalThis.kept = this.ctx.container; globalThis.port = kept.getTcpPort(80); kept.start(); }
        async take() { const tell = async (run) => { try { return await run(); } catch (error) { return error.message; } };
            return [await tell(() => kept.signal(9)), await tell(() => kept.destroy()), await tell(() => kept.monitor()), await tell(() => port.fetch('http://x/')), await tell(() => kept.setInactivityTimeout(1))]; }",
        CALL,
    );
    edge.get("/keep");
    let told = edge.get("/take?id=two");
    let other = r#""Cannot perform I/O on behalf of a different Durable Object.""#;
    assert_eq!(told, format!("[{}]", [other; 5].join(",")));
    assert_eq!(orders(&edge).len(), 1);
}

#[test]
fn what_this_version_does_not_have_says_so() {
    let mut edge = contained(
        "all() { const { container } = this.ctx; const names = ['interceptOutboundHttp', 'interceptAllOutboundHttp', 'interceptOutboundHttps', 'interceptOutboundTcp', 'exec', 'inspect', 'setLabels', 'snapshotDirectory', 'snapshotContainer'];
            return names.filter((name) => { try { container[name](); return true; } catch (error) { return error.message !== name + '() is not supported by this version of Berth.'; } }); }
        connect() { return this.ctx.container.getTcpPort(1).connect('x:1'); }
        own() { try { new this.ctx.container.constructor(); } catch (error) { return [String(error), typeof Container, String(this.ctx.container)]; } }",
        CALL,
    );
    assert_eq!(edge.get("/all"), "[]");
    assert_eq!(edge.get("/own"), r#"["TypeError: Illegal constructor","undefined","[object Container]"]"#);
}

#[test]
fn waiting_is_bounded() {
    let mut edge = contained(
        "start() { this.ctx.container.start(); for (let i = 0; i < 999; i++) this.ctx.container.monitor(); } monitor() { return this.ctx.container.monitor(); }",
        CALL,
    );
    edge.get("/start");
    edge.request("/monitor");
    let text = r#"["Error","More than 1000 calls wait for the end of this container.",null]"#;
    assert_eq!(edge.get("/monitor"), text);
}
