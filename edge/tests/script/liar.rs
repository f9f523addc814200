//! A process in place of a script's that does not keep to the protocol.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use berth_script::message::{
    BodyRef, Condemned, Destination, Effect, Event, EventId, HostBody, Inbound, Level, Loaded, Object,
    ObjectId, OpId, Opened, Piece, Request, Response, ScriptBody, ScriptError, encode,
};
use berth_script::process::accept;
use serde_bytes::ByteBuf;

/// Waits for the first call, and then lies in this way.
pub(crate) fn run(lie: &str) {
    if lie == "exit" {
        return;
    }
    let control = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let (_, mut sockets) = accept(&control).unwrap();
    if lie == "deaf" {
        std::thread::sleep(Duration::from_secs(600));
    }
    let mut socket = sockets.swap_remove(0);
    socket.set_nonblocking(false).unwrap();
    let event = called(&mut socket);
    if lie == "gone" {
        // Its sockets close, but it goes on.
        drop((socket, sockets, control));
        let null = std::fs::File::open("/dev/null").unwrap();
        nix::unistd::dup2_stdin(null).unwrap();
        std::thread::sleep(Duration::from_secs(600));
        return;
    }
    let loaded = Effect::Loaded(Loaded { handlers: vec!["fetch".to_owned()], classes: Vec::new() });
    say(&mut socket, &loaded);
    match lie {
        "unread" => never_reads(&mut socket),
        "words" => return floods(control),
        _ => {}
    }
    let bytes = raw(lie, &mut socket);
    let effects = lies(lie, event);
    while !(bytes.is_empty() && effects.is_empty()) {
        let _ = socket.write_all(&bytes);
        effects.iter().for_each(|effect| say(&mut socket, effect));
    }
    // Goes on to say nothing.
    let mut buffer = [0; 4096];
    while socket.read(&mut buffer).is_ok_and(|count| count > 0) {}
}

/// Takes messages until there is a call.
fn called(socket: &mut UnixStream) -> EventId {
    told(socket, |event| if let Event::Fetch { event, .. } = event { Some(event) } else { None })
}

/// Requests after which a process pauses that never reads, and how long: far fewer than may wait for an answer are made until those are
/// answered, so that it asks for no more at once than it may.
const ASKS: u64 = 20;
const ANSWERED: Duration = Duration::from_millis(10);

/// Takes an object, and asks for ever in its life, where requests have no bound over all.
fn never_reads(socket: &mut UnixStream) {
    let id = ObjectId([0; 32]);
    say(socket, &Effect::Open(Box::new(Object { class: "Room".to_owned(), id, name: None })));
    let life = told(socket, |event| match event {
        Event::Opened(_, Opened::Whole { life, .. }) => Some(life),
        _ => None,
    });
    for op in 1.. {
        // The answer has it in its head.
        let (method, url) = ("X".repeat(30_000), "http://b.example/x".to_owned());
        let request = Box::new(Request { method, url, headers: Vec::new(), body: BodyRef::None });
        let destination = Destination::Outside;
        say(socket, &Effect::Fetch { op: OpId(op), event: life, destination, request });
        if op % ASKS == 0 {
            std::thread::sleep(ANSWERED);
        }
    }
}

/// Has last words without end.
fn floods(mut control: UnixStream) {
    control.set_nonblocking(false).unwrap();
    while control.write_all(&[b'x'; 4096]).is_ok() {}
}

/// Takes messages until one is what is looked for.
fn told<T>(socket: &mut UnixStream, wanted: impl Fn(Event) -> Option<T>) -> T {
    let mut inbound = Inbound::<Event>::default();
    let mut buffer = [0; 4096];
    loop {
        while let Some(event) = inbound.next_message().unwrap() {
            if let Some(found) = wanted(event) {
                return found;
            }
        }
        let count = socket.read(&mut buffer).unwrap();
        inbound.extend(&buffer[..count]);
    }
}

fn say(socket: &mut UnixStream, effect: &Effect) {
    let mut bytes = Vec::new();
    encode(effect, &mut bytes).unwrap();
    if socket.write_all(&bytes).is_err() {
        std::process::exit(0);
    }
}

/// Bytes to repeat.
fn raw(lie: &str, socket: &mut UnixStream) -> Vec<u8> {
    match lie {
        "garbage" => (0..=255).collect(),
        "huge" => vec![0xff; 4],
        "variant" => vec![0, 0, 0, 1, 200],
        "cut" => {
            let _ = socket.write_all(&[0, 0, 0, 9, 1]);
            std::process::exit(0);
        }
        _ => Vec::new(),
    }
}

/// Messages to repeat.
fn lies(lie: &str, event: EventId) -> Vec<Effect> {
    let nobody = EventId(event.0 + 1000);
    let responded = |event, body| {
        let response = Response { status: 200, status_text: String::new(), headers: Vec::new(), body };
        Effect::Responded(event, Box::new(response))
    };
    let data = Effect::Body(ScriptBody(1), Piece::Data(ByteBuf::from(vec![0; 60_000])));
    match lie {
        "nobody" => vec![responded(nobody, BodyRef::None)],
        "failed" => vec![Effect::Failed(nobody, ScriptError::new("Error", "x"))],
        "done" => vec![Effect::Done { event: nobody, cpu_us: 1 }],
        "lines" => vec![Effect::Log { event: Some(event), level: Level::Log, text: "x".repeat(16_000) }],
        "outside lines" => vec![Effect::Log { event: None, level: Level::Log, text: "x".repeat(16_000) }],
        "beats" => vec![Effect::Beat],
        "pongs" => vec![Effect::Pong(1)],
        "loaded" => vec![Effect::Loaded(Loaded { handlers: Vec::new(), classes: Vec::new() })],
        "condemned" => vec![Effect::Condemned(Condemned::Memory), Effect::Condemned(Condemned::Memory)],
        "cancel" => vec![Effect::Cancel(OpId(7))],
        "credit" => vec![Effect::Credit(HostBody(7), 1)],
        "piece" => vec![data],
        "bytes" => vec![responded(event, BodyRef::Bytes(ByteBuf::from(vec![0; 300_000])))],
        "given" => vec![responded(event, BodyRef::Host(HostBody(7)))],
        "opened" => vec![Effect::Socket(HostBody(7), ScriptBody(1))],
        "switched" => {
            let (status_text, headers) = (String::new(), Vec::new());
            let response = Response { status: 101, status_text, headers, body: BodyRef::None };
            vec![Effect::Responded(event, Box::new(response))]
        }
        "flow" => [vec![responded(event, BodyRef::Script(ScriptBody(1)))], vec![data; 1000]].concat(),
        _ => Vec::new(),
    }
}
