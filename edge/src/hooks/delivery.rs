//! The delivery of one event to a hook: the body that is posted, and when to retry. Pure.

use berth_common::ids::{CallbackName, ObjectId};
use berth_common::outcome::Outcome;
use berth_common::spec::HookKind;
use berth_engine::Event;
use berth_store::{Delivery, EventId};
use serde::Serialize;
use serde_json::Value;

/// Seconds before each retry: soon at first, for transient faults; most of a day in all, so that somebody can repair
/// the receiver. There is one try more than there are pauses.
const PAUSES_S: [u64; 9] = [1, 5, 30, 120, 600, 1_800, 7_200, 21_600, 43_200];

/// The body that is posted.
#[derive(Serialize)]
struct Body<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: HookKind,
    app: &'a str,
    class: &'a str,
    name: &'a str,
    object: ObjectId,
    instance: Option<String>,
    generation: u64,
    time_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<&'a Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback: Option<&'a CallbackName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled_ms: Option<u64>,
}

/// What to do after a failed try.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Retry at that time.
    Again(Delivery),
    /// Give up: later events of the object must not wait any longer.
    SetAside(Delivery),
}

/// The body: the same for each try, so that a receiver recognizes a repetition.
pub(crate) fn body(delivery: &Delivery, id: EventId) -> Vec<u8> {
    let Event { kind, key, instance, generation, time_ms, outcome, .. } = &delivery.event;
    let due = delivery.callback.as_ref();
    let body = Body {
        id: id.to_string(),
        kind: *kind,
        app: key.app.as_str(),
        class: key.class.as_str(),
        name: key.name.as_str(),
        object: id.object,
        instance: instance.map(|instance| instance.to_string()),
        generation: generation.0,
        time_ms: *time_ms,
        exit: outcome.as_ref(),
        callback: due.and_then(|due| due.callback.as_ref()),
        payload: due.map(|due| &due.payload),
        scheduled_ms: due.map(|due| due.scheduled_ms),
    };
    // It contains only numbers and texts, which always serialize.
    serde_json::to_vec(&body).unwrap_or_default()
}

/// Decides after a failed try. `crowded`: too many events of the object wait behind it.
pub(crate) fn failed(mut delivery: Delivery, error: String, now_ms: u64, crowded: bool) -> Next {
    let pause = usize::try_from(delivery.attempts).ok().and_then(|tries| PAUSES_S.get(tries));
    delivery.attempts = delivery.attempts.saturating_add(1);
    delivery.last_error = Some(error);
    match pause.filter(|_| !crowded) {
        Some(pause_s) => {
            delivery.next_ms = now_ms.saturating_add(pause_s * 1_000);
            Next::Again(delivery)
        }
        None => Next::SetAside(delivery),
    }
}

/// The delivery as it was before any try.
pub(crate) fn reset_tries(delivery: Delivery) -> Delivery {
    Delivery { attempts: 0, next_ms: 0, last_error: None, ..delivery }
}

#[cfg(test)]
mod tests {
    use berth_store::NUMBER_BYTES;
    use berth_store::fixtures::delivery;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_tried_ten_times_over_most_of_a_day_and_then_given_up() {
        let (mut current, mut now_ms, mut tries) = (delivery("o", 1), 0, 0);
        let last = loop {
            tries += 1;
            match failed(current, "no".to_owned(), now_ms, false) {
                Next::Again(again) => {
                    assert!(again.next_ms > now_ms);
                    now_ms = again.next_ms;
                    current = again;
                }
                Next::SetAside(last) => break last,
            }
        };
        assert_eq!((tries, last.attempts), (10, 10));
        assert!((18..24).contains(&(now_ms / 3_600_000)), "{now_ms}");
        assert_eq!(reset_tries(last), delivery("o", 1));
        assert!(matches!(failed(delivery("o", 1), "no".to_owned(), 0, true), Next::SetAside(_)));
    }

    #[test]
    fn the_body_describes_the_event_and_is_the_same_for_each_try() {
        let id = EventId { object: delivery("o", 1).event.key.id(), number: [7; NUMBER_BYTES] };
        let posted: Value = serde_json::from_slice(&body(&delivery("o", 1), id)).unwrap();
        assert_eq!(
            (&posted["type"], &posted["name"], &posted["generation"]),
            (&json!("stop"), &json!("o"), &json!(1))
        );
        assert_eq!((&posted["exit"]["code"], &posted["id"]), (&json!(3), &json!(id.to_string())));
        assert!(
            posted.get("payload").is_none() && posted.get("url").is_none() && posted.get("secret").is_none()
        );
        let Next::Again(again) = failed(delivery("o", 1), "no".to_owned(), 0, false) else { panic!() };
        assert_eq!(body(&again, id), body(&delivery("o", 1), id));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("x".parse::<EventId>().is_err() && "00-11".parse::<EventId>().is_err());
    }
}
