use berth_script::message::container::{Ended, Order, START_BYTES, Start};
use berth_script::message::{
    CHANGES_BYTES, Condemned, Destination, Level, Loaded, Object, ObjectClass, Request, Response,
    STATE_PIECE_BYTES, ScriptError,
};
use proptest::prelude::*;
use serde_bytes::ByteBuf;

use super::*;

fn load() -> Load {
    let objects = vec![ObjectClass { name: "Room".to_owned(), key: [1; 32], container: false }];
    Load {
        modules: Vec::new(),
        resolutions: Vec::new(),
        entry: String::new(),
        env: Vec::new(),
        compatibility_date: String::new(),
        flags: Vec::new(),
        objects,
        limits: Limits { subrequests: 3, ..Limits::default() },
    }
}

fn ledger() -> (Ledger, EventId) {
    let mut ledger = Ledger::new(&load(), Instant::now());
    ledger.load();
    ledger
        .judge(&Effect::Loaded(Loaded { handlers: Vec::new(), classes: Vec::new() }), Instant::now())
        .unwrap();
    ledger.call(EventId(1), Answers::Response);
    (ledger, EventId(1))
}

fn responded(event: EventId, body: BodyRef) -> Effect {
    let response = Response { status: 200, status_text: String::new(), headers: Vec::new(), body };
    Effect::Responded(event, Box::new(response))
}

fn request(body: BodyRef) -> Request {
    Request { method: String::new(), url: String::new(), headers: Vec::new(), body }
}

fn fetch(op: u64, event: EventId, body: BodyRef) -> Effect {
    let (destination, request) = (Destination::Outside, Box::new(request(body)));
    Effect::Fetch { op: OpId(op), event, destination, request }
}

fn data(body: u64, count: usize) -> Effect {
    Effect::Body(ScriptBody(body), Piece::Data(ByteBuf::from(vec![0; count])))
}

fn line(event: Option<EventId>, length: usize) -> Effect {
    Effect::Log { event, level: Level::Log, text: "x".repeat(length) }
}

fn judged(ledger: &mut Ledger, effects: &[Effect]) -> Result<(), Lie> {
    effects.iter().try_for_each(|effect| ledger.judge(effect, Instant::now()))
}

#[test]
fn an_honest_call_is_believed() {
    let (mut ledger, event) = ledger();
    let given = ledger.give(event);
    let honest = [
        fetch(1, event, BodyRef::Script(ScriptBody(1))),
        line(Some(event), 10),
        line(None, 10),
        Effect::Credit(given, BODY_WINDOW),
        Effect::Cancelled(given),
        Effect::Credit(given, 1),
        Effect::Cancel(OpId(1)),
        Effect::Cancel(OpId(1)),
        responded(event, BodyRef::Script(ScriptBody(2))),
    ];
    judged(&mut ledger, &honest).unwrap();
    assert!(ledger.credit(ScriptBody(2), 100));
    judged(&mut ledger, &[data(2, 60), data(2, 40), Effect::Body(ScriptBody(2), Piece::End)]).unwrap();
    judged(&mut ledger, &[Effect::Done { event, cpu_us: 1 }]).unwrap();
    assert_eq!(ledger.calls(), 0);
    assert!(!ledger.credit(ScriptBody(1), 1) && ledger.complete(OpId(1)).is_none());
}

#[test]
fn each_lie_is_found() {
    let nobody = EventId(99);
    let error = || ScriptError::new("Error", "x");
    let own = EventId(1);
    let lies: Vec<(Vec<Effect>, Lie)> = vec![
        (vec![responded(nobody, BodyRef::None)], Lie::Call),
        (vec![Effect::Failed(nobody, error())], Lie::Call),
        (vec![Effect::Done { event: nobody, cpu_us: 0 }], Lie::Call),
        (vec![fetch(1, nobody, BodyRef::None)], Lie::Call),
        (vec![line(Some(nobody), 1)], Lie::Call),
        (vec![responded(own, BodyRef::None), Effect::Failed(own, error())], Lie::Twice),
        (vec![Effect::Done { event: own, cpu_us: 0 }, responded(own, BodyRef::None)], Lie::Call),
        (vec![fetch(1, own, BodyRef::None), fetch(1, own, BodyRef::None)], Lie::Number),
        ((1..5).map(|op| fetch(op, own, BodyRef::None)).collect(), Lie::Requests),
        (vec![Effect::Cancel(OpId(1))], Lie::Number),
        (
            vec![
                fetch(1, own, BodyRef::None),
                Effect::Cancel(OpId(1)),
                Effect::Cancel(OpId(1)),
                Effect::Cancel(OpId(1)),
            ],
            Lie::Stray,
        ),
        (std::iter::repeat_n(line(Some(own), 1), 258).collect(), Lie::Lines),
        (std::iter::repeat_n(line(None, 1), 258).collect(), Lie::Lines),
        (vec![line(None, 20_000)], Lie::Lines),
        (vec![responded(own, BodyRef::Host(HostBody(1)))], Lie::NotGiven),
        (vec![responded(own, BodyRef::Bytes(ByteBuf::from(vec![0; 70_000])))], Lie::Long),
        (vec![data(1, 1)], Lie::NotMade),
        (vec![responded(own, BodyRef::Script(ScriptBody(1))), data(1, 1)], Lie::Credit),
        (vec![responded(own, BodyRef::Script(ScriptBody(1))), data(1, 0)], Lie::Empty),
        (
            vec![
                fetch(1, own, BodyRef::Script(ScriptBody(1))),
                responded(own, BodyRef::Script(ScriptBody(1))),
            ],
            Lie::NotMade,
        ),
        (vec![Effect::Credit(HostBody(1), 1)], Lie::NotGiven),
        (vec![Effect::Cancelled(HostBody(1))], Lie::NotGiven),
        (vec![Effect::Credit(HostBody(1), 0)], Lie::Empty),
        (vec![Effect::Pong(1)], Lie::Pong),
        (vec![Effect::Beat, Effect::Beat, Effect::Beat], Lie::Beat),
        (vec![Effect::Used(0)], Lie::Used),
        (vec![Effect::Used(100_000), Effect::Used(60_000_000)], Lie::Used),
        (std::iter::repeat_n(Effect::Used(1), 20).collect(), Lie::Used),
        (vec![Effect::Loaded(Loaded { handlers: Vec::new(), classes: Vec::new() })], Lie::Load),
        (vec![Effect::Condemned(Condemned::Cpu), Effect::Condemned(Condemned::Cpu)], Lie::Load),
    ];
    for (effects, lie) in lies {
        let (mut ledger, _) = ledger();
        assert_eq!(judged(&mut ledger, &effects), Err(lie), "{effects:?}");
    }
}

fn socket(event: EventId, body: BodyRef) -> Effect {
    let response = Response { status: 101, status_text: String::new(), headers: Vec::new(), body };
    Effect::Responded(event, Box::new(response))
}

#[test]
fn an_honest_socket_is_believed() {
    let (mut ledger, event) = ledger();
    let given = ledger.give_socket(event);
    judged(&mut ledger, &[Effect::Socket(given, ScriptBody(1)), Effect::Credit(given, 10)]).unwrap();
    judged(&mut ledger, &[socket(event, BodyRef::Script(ScriptBody(2)))]).unwrap();
    let back = ledger.give_back(event);
    assert!(ledger.credit(ScriptBody(2), 100));
    judged(&mut ledger, &[Effect::Credit(back, 10), data(2, 100), Effect::Cancelled(back)]).unwrap();
    let (mut ledger, event) = self::ledger();
    let given = ledger.give_socket(event);
    judged(&mut ledger, &[socket(event, BodyRef::Host(given)), Effect::Done { event, cpu_us: 1 }]).unwrap();
}

#[test]
fn a_socket_is_not_taken_for_a_body_nor_given_twice() {
    let host = BodyRef::Host;
    type Says = fn(EventId, HostBody, HostBody) -> Vec<Effect>;
    let lies: [(Says, Lie); 10] = [
        (|event, _, _| vec![socket(event, BodyRef::None)], Lie::Socket),
        (|event, _, _| vec![socket(event, BodyRef::Bytes(ByteBuf::new()))], Lie::Socket),
        (|event, _, body| vec![socket(event, BodyRef::Host(body))], Lie::NotGiven),
        (|event, given, _| vec![responded(event, BodyRef::Host(given))], Lie::NotGiven),
        (|event, given, _| vec![fetch(1, event, BodyRef::Host(given))], Lie::NotGiven),
        (|_, given, _| vec![Effect::Credit(given, 1)], Lie::Socket),
        (|_, _, body| vec![Effect::Socket(body, ScriptBody(1))], Lie::NotGiven),
        (
            |_, given, _| vec![Effect::Socket(given, ScriptBody(1)), Effect::Socket(given, ScriptBody(2))],
            Lie::NotGiven,
        ),
        (
            |event, given, _| vec![Effect::Socket(given, ScriptBody(1)), socket(event, BodyRef::Host(given))],
            Lie::NotGiven,
        ),
        (
            |event, given, _| vec![socket(event, BodyRef::Host(given)), Effect::Socket(given, ScriptBody(1))],
            Lie::NotGiven,
        ),
    ];
    for (at, (says, lie)) in lies.into_iter().enumerate() {
        let (mut ledger, event) = ledger();
        let (given, body) = (ledger.give_socket(event), ledger.give(event));
        assert_eq!(judged(&mut ledger, &says(event, given, body)), Err(lie), "{at}");
    }
    // What comes to one that was given away is nobody else's; and methods give none.
    let (mut ledger, event) = ledger();
    let back = ledger.give_back(event);
    assert_eq!(judged(&mut ledger, &[socket(event, host(back))]), Err(Lie::NotGiven));
    ledger.call(EventId(2), Answers::Value);
    let Effect::Responded(_, response) = socket(event, BodyRef::Script(ScriptBody(1))) else {
        unreachable!()
    };
    let returned = Effect::Returned(EventId(2), Argument::Response(response));
    assert_eq!(judged(&mut ledger, &[returned]), Err(Lie::Socket));
}

#[test]
fn a_body_that_is_being_read_is_not_passed_on_and_its_credit_is_bounded() {
    let (mut ledger, event) = ledger();
    let given = ledger.give(event);
    judged(&mut ledger, &[Effect::Credit(given, BODY_WINDOW)]).unwrap();
    assert_eq!(judged(&mut ledger, &[Effect::Credit(given, 1)]), Err(Lie::Credit));
    let (mut ledger, event) = self::ledger();
    let given = ledger.give(event);
    judged(&mut ledger, &[Effect::Credit(given, 1)]).unwrap();
    assert_eq!(judged(&mut ledger, &[responded(event, BodyRef::Host(given))]), Err(Lie::NotGiven));
}

#[test]
fn messages_about_a_body_that_has_ended_are_few() {
    let (mut ledger, event) = ledger();
    let given = ledger.give(event);
    assert!(ledger.send(given, &Piece::End) && !ledger.send(given, &Piece::End));
    judged(&mut ledger, &[Effect::Credit(given, 1), Effect::Credit(given, 1), Effect::Cancelled(given)])
        .unwrap();
    assert_eq!(judged(&mut ledger, &[Effect::Credit(given, 1)]), Err(Lie::Stray));
}

#[test]
fn a_cron_has_no_answer_and_pings_are_answered_once() {
    let (mut ledger, _) = ledger();
    let event = EventId(2);
    ledger.call(event, Answers::Nothing);
    assert_eq!(judged(&mut ledger, &[responded(event, BodyRef::None)]), Err(Lie::Call));
    assert_eq!((ledger.ask(), ledger.ask()), (Some(1), None));
    judged(&mut ledger, &[Effect::Pong(1)]).unwrap();
    assert_eq!(ledger.ask(), Some(2));
    assert_eq!(judged(&mut ledger, &[Effect::Pong(1)]), Err(Lie::Pong));
}

fn object(number: u8) -> Object {
    Object { class: "Room".to_owned(), id: ObjectId([number; 32]), name: None }
}

fn commit(of: u8, sequence: u64, bytes: usize, last: bool) -> Effect {
    Effect::Commit { object: object(of).id, sequence, piece: ByteBuf::from(vec![0; bytes]), last }
}

fn open(of: u8) -> Effect {
    Effect::Open(Box::new(object(of)))
}

fn rpc(op: u64, event: EventId, object: Object, args: Vec<Argument>) -> Effect {
    Effect::Rpc { op: OpId(op), event, object: Box::new(object), method: "x".to_owned(), args }
}

/// A script with the object 1, whose life is the call 7, and the call 2 of a method.
fn with_object() -> Ledger {
    let (mut ledger, _) = ledger();
    judged(&mut ledger, &[open(1)]).unwrap();
    assert!(
        ledger.given_object(object(1).id, EventId(7), false)
            && !ledger.given_object(object(1).id, EventId(8), false)
    );
    ledger.call(EventId(2), Answers::Value);
    ledger
}

#[test]
fn an_objects_life_is_a_call_without_an_end_of_its_own_and_without_bounds_over_all() {
    let (mut ledger, life) = (with_object(), EventId(7));
    judged(&mut ledger, &vec![line(Some(life), 1); 1000]).unwrap();
    for op in (1..100).rev() {
        judged(&mut ledger, &[fetch(op, life, BodyRef::None)]).unwrap();
        assert_eq!(ledger.complete(OpId(op)), Some(life));
    }
    let value = Argument::Value(ByteBuf::from(vec![0; RPC_BYTES]));
    let rest = [
        rpc(200, life, object(2), vec![value.clone()]),
        fetch(201, life, BodyRef::Script(ScriptBody(1))),
        commit(1, 1, 5, false),
        commit(1, 1, 5, true),
        commit(1, 2, 5, true),
        Effect::Returned(EventId(2), value),
        Effect::Done { event: EventId(2), cpu_us: 0 },
        Effect::Dropped(object(1).id),
        open(1),
    ];
    judged(&mut ledger, &rest).unwrap();
    assert!(ledger.complete(OpId(200)).is_none() && !ledger.credit(ScriptBody(1), 1));
    assert!(ledger.refused_object(object(1).id) && !ledger.refused_object(object(1).id));
    assert_eq!(ledger.calls(), 1);
    // What has no bound over all has one at once.
    let mut ledger = with_object();
    let many: Vec<Effect> = (1..).take(MAX_OPS).map(|op| rpc(op, life, object(2), Vec::new())).collect();
    judged(&mut ledger, &many).unwrap();
    assert_eq!(judged(&mut ledger, &[rpc(20_000, life, object(2), Vec::new())]), Err(Lie::Requests));
}

#[test]
fn each_lie_about_objects_is_found() {
    let (life, called) = (EventId(7), EventId(2));
    let error = || ScriptError::new("Error", "x");
    let other = || Object { class: "Other".to_owned(), ..object(9) };
    let value = |bytes| Argument::Value(ByteBuf::from(vec![0; bytes]));
    let long = || Object { name: Some("x".repeat(2049)), ..object(9) };
    let lies: Vec<(Vec<Effect>, Lie)> = vec![
        (vec![open(1)], Lie::Object),
        (vec![open(2), open(2)], Lie::Object),
        (vec![Effect::Open(Box::new(other()))], Lie::Object),
        (vec![Effect::Open(Box::new(long()))], Lie::Object),
        ((0..10_000_u64).map(numbered).collect(), Lie::Object),
        (vec![commit(2, 1, 1, true)], Lie::Object),
        (vec![open(2), commit(2, 1, 1, true)], Lie::Object),
        (vec![commit(1, 2, 1, true)], Lie::Commit),
        (vec![commit(1, 0, 1, true)], Lie::Commit),
        (vec![commit(1, 1, 1, true), commit(1, 1, 1, true)], Lie::Commit),
        (vec![commit(1, 1, 1, false), commit(1, 2, 1, true)], Lie::Commit),
        (vec![commit(1, 1, 0, true)], Lie::Commit),
        (vec![commit(1, 1, STATE_PIECE_BYTES + 1, true)], Lie::Commit),
        (vec![commit(1, 1, STATE_PIECE_BYTES, false); CHANGES_BYTES / STATE_PIECE_BYTES + 1], Lie::Commit),
        (vec![commit(1, 1, 1, false), Effect::Dropped(object(1).id)], Lie::Commit),
        (vec![Effect::Reset(object(2).id, error())], Lie::Object),
        (vec![Effect::Reset(object(1).id, ScriptError::new("Error", "x".repeat(300_000)))], Lie::Long),
        (vec![Effect::Dropped(object(1).id), Effect::Dropped(object(1).id)], Lie::Object),
        (vec![Effect::Dropped(object(1).id), line(Some(life), 1)], Lie::Call),
        (vec![Effect::Done { event: life, cpu_us: 0 }], Lie::Call),
        (vec![responded(life, BodyRef::None)], Lie::Call),
        (vec![Effect::Failed(life, error())], Lie::Call),
        (vec![responded(called, BodyRef::None)], Lie::Call),
        (vec![Effect::Returned(EventId(1), value(1))], Lie::Call),
        (vec![Effect::Returned(called, value(1)), Effect::Returned(called, value(1))], Lie::Twice),
        (vec![Effect::Returned(called, value(RPC_BYTES + 1))], Lie::Long),
        (vec![rpc(1, life, object(2), vec![value(RPC_BYTES + 1)])], Lie::Long),
        (vec![rpc(1, life, other(), Vec::new())], Lie::Object),
        (vec![rpc(1, EventId(99), object(2), Vec::new())], Lie::Call),
        (vec![rpc(1, life, object(2), Vec::new()), fetch(1, life, BodyRef::None)], Lie::Number),
        (vec![line(Some(life), 20_000)], Lie::Lines),
    ];
    for (effects, lie) in lies {
        let found = judged(&mut with_object(), &effects);
        assert_eq!(found, Err(lie), "{:?} …", effects.first());
    }
}

/// Asks for an object that no other number has.
fn numbered(number: u64) -> Effect {
    let mut id = [0xee; 32];
    id[..8].copy_from_slice(&number.to_be_bytes());
    Effect::Open(Box::new(Object { id: ObjectId(id), ..object(0) }))
}

#[test]
fn a_body_that_one_call_was_given_may_be_passed_on_in_another_and_goes_with_the_first() {
    let mut ledger = with_object();
    let (given, other) = (ledger.give(EventId(1)), ledger.give(EventId(1)));
    judged(&mut ledger, &[fetch(1, EventId(7), BodyRef::Host(given))]).unwrap();
    judged(&mut ledger, &[Effect::Done { event: EventId(1), cpu_us: 0 }]).unwrap();
    assert_eq!(judged(&mut ledger, &[fetch(2, EventId(7), BodyRef::Host(other))]), Err(Lie::NotGiven));
}

proptest! {
    /// Whatever honest lives objects have beside each other, nothing of it is a lie, and nothing of them is left.
    #[test]
    fn honest_lives_are_believed_and_leave_nothing(
        steps in proptest::collection::vec((0..4_u8, 0..6_u8), 0..200),
    ) {
        let (mut ledger, mut lives) = (ledger().0, HashMap::<u8, (EventId, u64)>::new());
        let (mut events, mut op) = (100, 0);
        for (of, step) in steps {
            let Some((life, commits)) = lives.get_mut(&of) else {
                judged(&mut ledger, &[open(of)]).unwrap();
                events += 1;
                if step > 0 {
                    prop_assert!(ledger.given_object(object(of).id, EventId(events), false));
                    lives.insert(of, (EventId(events), 0));
                } else {
                    prop_assert!(ledger.refused_object(object(of).id));
                }
                continue;
            };
            op += 1;
            let effects = match step {
                0 => vec![Effect::Dropped(object(of).id)],
                1 => vec![Effect::Reset(object(of).id, ScriptError::new("Error", "x"))],
                2 => vec![fetch(op, *life, BodyRef::Script(ScriptBody(op)))],
                3 => vec![line(Some(*life), 3)],
                _ => {
                    *commits += 1;
                    (1..=step).map(|n| commit(of, *commits, 9, n == step)).collect()
                }
            };
            judged(&mut ledger, &effects).unwrap();
            if step < 2 {
                lives.remove(&of);
            }
        }
        for of in lives.into_keys() {
            judged(&mut ledger, &[Effect::Dropped(object(of).id)]).unwrap();
        }
        prop_assert_eq!((ledger.calls(), ledger.ops.len(), ledger.made.len(), ledger.ops_weight), (1, 0, 0, 0));
    }
}

/// A script with the object 1, which has a container that does not run; its life is the call 7.
fn with_container() -> Ledger {
    let mut load = load();
    load.objects.iter_mut().for_each(|class| class.container = true);
    let mut ledger = Ledger::new(&load, Instant::now());
    judged(&mut ledger, &[open(1)]).unwrap();
    assert!(ledger.given_object(object(1).id, EventId(7), false));
    ledger
}

fn order(order: Order) -> Effect {
    Effect::Container(object(1).id, order)
}

fn start() -> Effect {
    order(Order::Start(Box::default()))
}

fn port(of: u8, port: u16) -> Effect {
    Effect::Fetch {
        op: OpId(1),
        event: EventId(7),
        destination: Destination::Port { object: object(of).id, port, upgrade: false },
        request: Box::new(request(BodyRef::None)),
    }
}

#[test]
fn a_container_is_started_once_until_its_end_was_told() {
    let mut ledger = with_container();
    judged(&mut ledger, &[start(), port(1, 1), order(Order::Signal(64))]).unwrap();
    assert_eq!(judged(&mut ledger, &[start()]), Err(Lie::Container));
    ledger.container_changed(object(1).id, &Change::Ended(Ended::Exited(0)));
    judged(&mut ledger, &[order(Order::KeepFor(1)), start()]).unwrap();
}

#[test]
fn a_container_is_killed_at_most_once_each_time_it_runs() {
    let mut ledger = with_container();
    let destroy = || order(Order::Destroy);
    assert_eq!(judged(&mut ledger, &[destroy()]), Err(Lie::Container));
    judged(&mut ledger, &[start()]).unwrap();
    // The order was under way when the end was told.
    ledger.container_changed(object(1).id, &Change::Ended(Ended::Exited(0)));
    judged(&mut ledger, &[destroy(), start(), destroy()]).unwrap();
    assert_eq!(judged(&mut ledger, &[destroy()]), Err(Lie::Container));
    ledger.container_changed(object(1).id, &Change::Running);
    judged(&mut ledger, &[destroy()]).unwrap();
}

#[test]
fn each_lie_about_containers_is_found() {
    let with = |env: (&str, &str), labels, words: &[&str]| {
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let labels = vec![pair(("a", "b")); labels];
        let entrypoint = Some(words.iter().map(|word| (*word).to_owned()).collect());
        order(Order::Start(Box::new(Start {
            env: vec![pair(env)],
            entrypoint,
            enable_internet: true,
            labels,
        })))
    };
    let long = "x".repeat(START_BYTES);
    let lies = [
        order(Order::Signal(0)),
        order(Order::Signal(65)),
        order(Order::KeepFor(0)),
        with(("A=B", "c"), 0, &["x"]),
        with(("A", "\0"), 0, &["x"]),
        with(("A", &long), 0, &["x"]),
        with(("A", "b"), 11, &["x"]),
        with(("A", "b"), 0, &[]),
        with(("A", "b"), 0, &["\0"]),
        Effect::Container(object(2).id, Order::Destroy),
        port(1, 0),
        port(2, 1),
    ];
    for lie in lies {
        assert_eq!(judged(&mut with_container(), std::slice::from_ref(&lie)), Err(Lie::Container), "{lie:?}");
    }
    // A class without containers has none.
    for lie in [start(), port(1, 1)] {
        assert_eq!(judged(&mut with_object(), &[lie]), Err(Lie::Container));
    }
}

#[test]
fn websockets_that_are_written_to_have_a_bound_and_their_ends_count() {
    let (mut ledger, _) = ledger();
    let most = u64::try_from(SOCKETS).unwrap();
    let open = |ledger: &mut Ledger, n: u64| {
        ledger.call(EventId(1000 + n), Answers::Response);
        judged(ledger, &[socket(EventId(1000 + n), BodyRef::Script(ScriptBody(n)))])
    };
    for n in 1..=most {
        open(&mut ledger, n).unwrap();
    }
    judged(
        &mut ledger,
        &[Effect::Body(ScriptBody(1), Piece::End), Effect::Done { event: EventId(1002), cpu_us: 0 }],
    )
    .unwrap();
    open(&mut ledger, most + 1).unwrap();
    open(&mut ledger, most + 2).unwrap();
    assert_eq!(open(&mut ledger, most + 3), Err(Lie::Socket));
}
