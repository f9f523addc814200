use berth_script::message::{Condemned, Destination, Level, Loaded, Response, ScriptError};
use serde_bytes::ByteBuf;

use super::*;

fn ledger() -> (Ledger, EventId) {
    let mut ledger = Ledger::new(Limits { subrequests: 3, ..Limits::default() }, Instant::now());
    ledger.load();
    ledger
        .judge(&Effect::Loaded(Loaded { handlers: Vec::new(), classes: Vec::new() }), Instant::now())
        .unwrap();
    ledger.call(EventId(1), true);
    (ledger, EventId(1))
}

fn responded(event: EventId, body: BodyRef) -> Effect {
    let response = Response { status: 200, status_text: String::new(), headers: Vec::new(), body };
    Effect::Responded(event, Box::new(response))
}

fn fetch(op: u64, event: EventId, body: BodyRef) -> Effect {
    let request = Request { method: String::new(), url: String::new(), headers: Vec::new(), body };
    let destination = Destination::Outside;
    Effect::Fetch { op: OpId(op), event, destination, request: Box::new(request), follow: true }
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
        (vec![Effect::Loaded(Loaded { handlers: Vec::new(), classes: Vec::new() })], Lie::Load),
        (vec![Effect::Condemned(Condemned::Cpu), Effect::Condemned(Condemned::Cpu)], Lie::Load),
    ];
    for (effects, lie) in lies {
        let (mut ledger, _) = ledger();
        assert_eq!(judged(&mut ledger, &effects), Err(lie), "{effects:?}");
    }
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
    ledger.call(event, false);
    assert_eq!(judged(&mut ledger, &[responded(event, BodyRef::None)]), Err(Lie::Call));
    assert_eq!((ledger.ask(), ledger.ask()), (Some(1), None));
    judged(&mut ledger, &[Effect::Pong(1)]).unwrap();
    assert_eq!(ledger.ask(), Some(2));
    assert_eq!(judged(&mut ledger, &[Effect::Pong(1)]), Err(Lie::Pong));
}
