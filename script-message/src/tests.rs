use proptest::prelude::*;
use serde_bytes::ByteBuf;

use super::container::{Change, Ended, Order, Start};
use super::*;

fn text() -> impl Strategy<Value = String> {
    ".{0,40}"
}

fn headers() -> impl Strategy<Value = Headers> {
    proptest::collection::vec(("[a-z-]{1,20}", text()), 0..5)
}

fn bytes() -> impl Strategy<Value = ByteBuf> {
    proptest::collection::vec(any::<u8>(), 0..300).prop_map(ByteBuf::from)
}

fn body() -> impl Strategy<Value = BodyRef> {
    prop_oneof![
        Just(BodyRef::None),
        bytes().prop_map(BodyRef::Bytes),
        any::<u64>().prop_map(|id| BodyRef::Host(HostBody(id))),
        any::<u64>().prop_map(|id| BodyRef::Script(ScriptBody(id))),
    ]
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![bytes().prop_map(Piece::Data), Just(Piece::End), text().prop_map(Piece::Failed)]
}

fn error() -> impl Strategy<Value = ScriptError> {
    let thrown = proptest::option::of(bytes());
    (text(), text(), text(), any::<[bool; 4]>(), thrown).prop_map(|(name, message, stack, flags, thrown)| {
        let flags =
            ErrorFlags { reset: flags[0], remote: flags[1], retryable: flags[2], overloaded: flags[3] };
        ScriptError { name, message, stack, flags, thrown }
    })
}

fn object() -> impl Strategy<Value = Box<Object>> {
    (text(), any::<[u8; 32]>(), proptest::option::of(text()))
        .prop_map(|(class, id, name)| Box::new(Object { class, id: ObjectId(id), name }))
}

fn argument() -> impl Strategy<Value = Argument> {
    prop_oneof![
        bytes().prop_map(Argument::Value),
        request().prop_map(Argument::Request),
        response().prop_map(|response| Argument::Response(Box::new(response))),
    ]
}

fn arguments() -> impl Strategy<Value = Vec<Argument>> {
    proptest::collection::vec(argument(), 0..4)
}

fn opened() -> impl Strategy<Value = Opened> {
    prop_oneof![
        bytes().prop_map(Opened::Part),
        (any::<u64>(), bytes(), any::<bool>()).prop_map(|(life, rest, running)| Opened::Whole {
            life: EventId(life),
            rest,
            running
        }),
        Just(Opened::Elsewhere),
        error().prop_map(Opened::Failed),
    ]
}

fn order() -> impl Strategy<Value = Order> {
    let pairs = || proptest::collection::vec((text(), text()), 0..4);
    let words = proptest::option::of(proptest::collection::vec(text(), 0..4));
    prop_oneof![
        (pairs(), words, any::<bool>(), pairs()).prop_map(|(env, entrypoint, enable_internet, labels)| {
            Order::Start(Box::new(Start { env, entrypoint, enable_internet, labels }))
        }),
        any::<u8>().prop_map(Order::Signal),
        Just(Order::Destroy),
        any::<u64>().prop_map(Order::KeepFor),
    ]
}

fn ended() -> impl Strategy<Value = Ended> {
    prop_oneof![
        any::<i32>().prop_map(Ended::Exited),
        any::<u8>().prop_map(Ended::Signalled),
        any::<i32>().prop_map(Ended::Stopped),
        text().prop_map(Ended::NotStarted),
        text().prop_map(Ended::Lost),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![Just(Change::Running), ended().prop_map(Change::Ended)]
}

fn changes() -> impl Strategy<Value = Changes> {
    let entries = proptest::collection::vec((text(), proptest::option::of(bytes())), 0..5);
    let pages = proptest::collection::vec((any::<u32>(), bytes()), 0..3);
    (any::<bool>(), entries, pages, any::<Option<u32>>(), any::<Option<Option<u64>>>()).prop_map(
        |(clear, entries, pages, page_count, alarm)| Changes { clear, entries, pages, page_count, alarm },
    )
}

fn request() -> impl Strategy<Value = Box<Request>> {
    (text(), text(), headers(), body())
        .prop_map(|(method, url, headers, body)| Box::new(Request { method, url, headers, body }))
}

fn response() -> impl Strategy<Value = Response> {
    (any::<u16>(), text(), headers(), body()).prop_map(|(status, status_text, headers, body)| Response {
        status,
        status_text,
        headers,
        body,
    })
}

fn load() -> impl Strategy<Value = Event> {
    let modules = proptest::collection::vec((text(), text()), 0..4);
    let env = proptest::collection::vec((text(), text()), 0..4);
    (modules, env, text(), any::<u64>()).prop_map(|(modules, env, entry, memory_bytes)| {
        let resolution = |(a, b): &(String, String)| Resolution {
            importer: a.clone(),
            specifier: b.clone(),
            module: entry.clone(),
        };
        Event::Load(Box::new(Load {
            resolutions: modules.iter().map(resolution).collect(),
            modules: modules.into_iter().map(|(name, source)| Module { name, source }).collect(),
            env: env.into_iter().map(|(name, value)| (name, Variable::Json(value))).collect(),
            entry,
            compatibility_date: "2026-01-31".to_owned(),
            flags: vec!["nodejs_compat".to_owned()],
            objects: vec![ObjectClass { name: "Room".to_owned(), key: [7; 32], container: true }],
            limits: Limits { memory_bytes, ..Limits::default() },
        }))
    })
}

fn event() -> impl Strategy<Value = Event> {
    let id = any::<u64>;
    prop_oneof![
        load(),
        (id(), request()).prop_map(|(event, request)| Event::Fetch {
            event: EventId(event),
            target: Target::Worker,
            request
        }),
        (id(), text(), id()).prop_map(|(event, cron, time_ms)| Event::Scheduled {
            event: EventId(event),
            cron,
            time_ms
        }),
        id().prop_map(|event| Event::Aborted(EventId(event))),
        (id(), response())
            .prop_map(|(op, response)| Event::Completed { op: OpId(op), outcome: Ok(response) }),
        (id(), error()).prop_map(|(op, error)| Event::Completed { op: OpId(op), outcome: Err(error) }),
        (id(), piece()).prop_map(|(body, piece)| Event::Body(HostBody(body), piece)),
        (id(), any::<u32>()).prop_map(|(body, bytes)| Event::Credit(ScriptBody(body), bytes)),
        id().prop_map(|body| Event::Cancelled(ScriptBody(body))),
        id().prop_map(Event::Ping),
        (id(), object(), request()).prop_map(|(event, object, request)| Event::Fetch {
            event: EventId(event),
            target: Target::Object(object),
            request
        }),
        (id(), object(), text(), arguments()).prop_map(|(event, object, method, args)| Event::Rpc {
            event: EventId(event),
            object,
            method,
            args
        }),
        (id(), object(), id(), any::<u32>()).prop_map(|(event, object, scheduled_ms, retry)| Event::Alarm {
            event: EventId(event),
            object,
            scheduled_ms,
            retry
        }),
        (id(), argument()).prop_map(|(op, value)| Event::Returned { op: OpId(op), outcome: Ok(value) }),
        (id(), error()).prop_map(|(op, error)| Event::Returned { op: OpId(op), outcome: Err(error) }),
        (object(), opened()).prop_map(|(object, opened)| Event::Opened(object.id, opened)),
        (object(), id()).prop_map(|(object, sequence)| Event::Committed(object.id, sequence)),
        (object(), id()).prop_map(|(object, sequence)| Event::CommitFailed(object.id, sequence)),
        (object(), proptest::option::of(error())).prop_map(|(object, why)| Event::Drop(object.id, why)),
        any::<u32>().prop_map(|idle_ms| Event::Rest { idle_ms }),
        (object(), change()).prop_map(|(object, change)| Event::Container(object.id, change)),
        (id(), id()).prop_map(|(made, given)| Event::Socket(ScriptBody(made), HostBody(given))),
    ]
}

fn effect() -> impl Strategy<Value = Effect> {
    let id = any::<u64>;
    let names = || proptest::collection::vec(text(), 0..4);
    prop_oneof![
        (names(), names()).prop_map(|(handlers, classes)| Effect::Loaded(Loaded { handlers, classes })),
        (error(), proptest::option::of(text()), any::<Option<u32>>()).prop_map(|(error, module, line)| {
            Effect::LoadFailed(LoadFailed { error, module, line, column: line })
        }),
        (id(), response())
            .prop_map(|(event, response)| Effect::Responded(EventId(event), Box::new(response))),
        (id(), error()).prop_map(|(event, error)| Effect::Failed(EventId(event), error)),
        (id(), id()).prop_map(|(event, cpu_us)| Effect::Done { event: EventId(event), cpu_us }),
        (id(), id(), request(), any::<bool>()).prop_map(|(op, event, request, outside)| Effect::Fetch {
            op: OpId(op),
            event: EventId(event),
            destination: if outside { Destination::Outside } else { Destination::Assets },
            request
        }),
        id().prop_map(|op| Effect::Cancel(OpId(op))),
        (id(), piece()).prop_map(|(body, piece)| Effect::Body(ScriptBody(body), piece)),
        (id(), any::<u32>()).prop_map(|(body, bytes)| Effect::Credit(HostBody(body), bytes)),
        id().prop_map(|body| Effect::Cancelled(HostBody(body))),
        (any::<Option<u64>>(), text()).prop_map(|(event, text)| Effect::Log {
            event: event.map(EventId),
            level: Level::Warn,
            text
        }),
        prop_oneof![Just(Condemned::Memory), Just(Condemned::Cpu)].prop_map(Effect::Condemned),
        id().prop_map(Effect::Pong),
        Just(Effect::Beat),
        any::<u64>().prop_map(Effect::Used),
        (id(), id(), object(), request()).prop_map(|(op, event, object, request)| Effect::Fetch {
            op: OpId(op),
            event: EventId(event),
            destination: Destination::Object(object),
            request
        }),
        (id(), id(), object(), text(), arguments()).prop_map(|(op, event, object, method, args)| {
            Effect::Rpc { op: OpId(op), event: EventId(event), object, method, args }
        }),
        (id(), argument()).prop_map(|(event, value)| Effect::Returned(EventId(event), value)),
        object().prop_map(Effect::Open),
        (object(), id(), bytes(), any::<bool>()).prop_map(|(object, sequence, piece, last)| Effect::Commit {
            object: object.id,
            sequence,
            piece,
            last
        }),
        (object(), error()).prop_map(|(object, why)| Effect::Reset(object.id, why)),
        object().prop_map(|object| Effect::Dropped(object.id)),
        (object(), order()).prop_map(|(object, order)| Effect::Container(object.id, order)),
        (id(), id()).prop_map(|(given, made)| Effect::Socket(HostBody(given), ScriptBody(made))),
        (id(), object(), any::<u16>(), request(), any::<bool>()).prop_map(
            |(op, object, port, request, upgrade)| {
                let destination = Destination::Port { object: object.id, port, upgrade };
                Effect::Fetch { op: OpId(op), event: EventId(op), destination, request }
            }
        ),
    ]
}

/// The messages in these bytes, which come in pieces of this size.
fn read<T: Direction>(bytes: &[u8], step: usize) -> Result<Vec<T>, FrameError> {
    let mut inbound = Inbound::default();
    let mut messages = Vec::new();
    for piece in bytes.chunks(step.max(1)) {
        inbound.extend(piece);
        while let Some(message) = inbound.next_message()? {
            messages.push(message);
        }
    }
    Ok(messages)
}

fn survives<T: Direction + PartialEq + std::fmt::Debug>(messages: &[T], step: usize) {
    let mut bytes = Vec::new();
    for message in messages {
        encode(message, &mut bytes).unwrap();
    }
    assert_eq!(read::<T>(&bytes, step).unwrap(), messages);
    assert_eq!(read::<T>(&bytes[..bytes.len() - 1], step).unwrap(), messages[..messages.len() - 1]);
}

proptest! {
    #[test]
    fn events_survive_their_frames(messages in proptest::collection::vec(event(), 1..6), step in 1..200_usize) {
        survives(&messages, step);
    }

    #[test]
    fn effects_survive_their_frames(messages in proptest::collection::vec(effect(), 1..6), step in 1..200_usize) {
        survives(&messages, step);
    }

    #[test]
    fn changes_survive_and_any_bytes_are_some_or_an_error(changes in changes(), bytes in bytes()) {
        let written = changes.to_bytes().unwrap();
        assert_eq!(Changes::from_bytes(&written).unwrap(), changes);
        assert!(Changes::from_bytes(&written[..written.len() - 1]).is_err());
        assert!(Changes::from_bytes(&[&written[..], &[0]].concat()).is_err());
        let _ = Changes::from_bytes(&bytes);
    }

    #[test]
    fn an_id_is_its_digits(bytes in any::<[u8; 32]>()) {
        let id = ObjectId(bytes);
        assert_eq!(ObjectId::parse(&id.to_string()), Some(id));
        assert_eq!(ObjectId::parse(&id.to_string()[1..]), None);
        assert_eq!(ObjectId::parse(&format!("+{}", &id.to_string()[1..])), None);
    }

    #[test]
    fn any_bytes_are_messages_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read::<Event>(&bytes, 7);
        let _ = read::<Effect>(&bytes, 7);
    }

    #[test]
    fn a_changed_byte_is_another_message_or_an_error(message in effect(), at in any::<usize>(), to in any::<u8>()) {
        let mut bytes = Vec::new();
        encode(&message, &mut bytes).unwrap();
        let at = at % bytes.len();
        bytes[at] = to;
        let _ = read::<Effect>(&bytes, 64);
    }
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn an_absurd_length_is_refused_before_its_bytes_come() {
    assert!(matches!(read::<Effect>(&[0xff; 4], 4), Err(FrameError::TooLong(_))));
    let just_over = u32::try_from(MAX_EFFECT_BYTES + 1).unwrap().to_be_bytes();
    assert!(matches!(read::<Effect>(&just_over, 4), Err(FrameError::TooLong(_))));
}

#[test]
fn an_unknown_variant_a_cut_message_and_bytes_behind_one_are_errors() {
    assert!(matches!(read::<Effect>(&frame(&[200]), 64), Err(FrameError::Body(_))));
    assert!(matches!(read::<Effect>(&frame(&[]), 64), Err(FrameError::Body(_))));
    let mut whole = Vec::new();
    encode(&Effect::Failed(EventId(7), ScriptError::new("TypeError", "no")), &mut whole).unwrap();
    let body = &whole[4..];
    assert!(matches!(read::<Effect>(&frame(&body[..body.len() - 1]), 64), Err(FrameError::Body(_))));
    let longer = [body, &[0, 0]].concat();
    assert!(matches!(read::<Effect>(&frame(&longer), 64), Err(FrameError::Trailing(2))));
}

#[test]
fn a_list_that_claims_more_than_there_is_allocates_little() {
    // `Loaded`, with 2^62 handlers of which none follows.
    let body = [&[0_u8][..], &[0xff; 8], &[0x3f]].concat();
    assert!(matches!(read::<Effect>(&frame(&body), 64), Err(FrameError::Body(_))));
    // `Pong` with a number that does not end.
    let body = [&[12_u8][..], &[0xff; 20]].concat();
    assert!(matches!(read::<Effect>(&frame(&body), 64), Err(FrameError::Body(_))));
}

#[test]
fn what_is_too_long_is_not_written() {
    let mut out = vec![1, 2, 3];
    let text = "x".repeat(MAX_EFFECT_BYTES);
    let long = Effect::Log { event: None, level: Level::Log, text };
    assert!(matches!(encode(&long, &mut out), Err(FrameError::TooLong(_))));
    assert_eq!(out, [1, 2, 3]);
}

#[test]
fn the_buffer_keeps_no_more_than_what_is_unread() {
    let mut inbound = Inbound::<Event>::default();
    let long = Event::Completed { op: OpId(1), outcome: Err(ScriptError::new("Error", "y".repeat(8 << 20))) };
    let mut bytes = Vec::new();
    encode(&long, &mut bytes).unwrap();
    inbound.extend(&bytes);
    assert!(inbound.next_message().unwrap().is_some());
    inbound.extend(&[]);
    assert!(inbound.next_message().unwrap().is_none());
    assert_eq!(inbound.held(), 0);
}

/// Two bytes each on their way, some fifty in memory.
#[test]
fn changes_with_more_parts_than_an_object_has_are_not_read() {
    let entries = |count| Changes { entries: vec![(String::new(), None); count], ..Changes::default() };
    let most = entries(CHANGES_PARTS).to_bytes().unwrap();
    assert!(most.len() < CHANGES_PARTS * 3 && Changes::from_bytes(&most).is_ok());
    let more = postcard::to_stdvec(&entries(CHANGES_PARTS + 1)).unwrap();
    assert!(Changes::from_bytes(&more).is_err() && entries(CHANGES_PARTS + 1).to_bytes().is_err());
    let pages = Changes { pages: vec![(0, ByteBuf::new()); CHANGES_PARTS + 1], ..Changes::default() };
    assert!(Changes::from_bytes(&postcard::to_stdvec(&pages).unwrap()).is_err());
}
