//! An event on its way to a hook: what is stored of it, what is posted, and when it is tried again. Pure.

use std::fmt;
use std::str::FromStr;

use berth_common::ids::{CallbackName, IdError, ObjectId};
use berth_common::outcome::Outcome;
use berth_common::spec::HookKind;
use berth_engine::Event;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Seconds before each further try: soon at first, for what heals by itself; most of a day in all, for a receiver that
/// somebody must mend. One try more than there are pauses.
const PAUSES_S: [u64; 9] = [1, 5, 30, 120, 600, 1_800, 7_200, 21_600, 43_200];
/// Bytes of an event's number.
pub(crate) const NUMBER_BYTES: usize = 10;

/// Which event: the store numbers them in the order in which they are written, those of one object with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EventId {
    pub(crate) object: ObjectId,
    pub(crate) number: [u8; NUMBER_BYTES],
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.object, hex::encode(self.number))
    }
}

impl FromStr for EventId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (object, digits) = text.split_once('-').ok_or(IdError::NotHex)?;
        let mut number = [0; NUMBER_BYTES];
        hex::decode_to_slice(digits, &mut number).map_err(|_| IdError::NotHex)?;
        Ok(Self { object: object.parse()?, number })
    }
}

/// An event that is still to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delivery {
    pub(crate) event: Event,
    /// Of a callback.
    #[serde(default)]
    pub(crate) callback: Option<Due>,
    /// How often it was tried.
    #[serde(default)]
    pub(crate) attempts: u32,
    /// Not before this, in milliseconds since 1970.
    #[serde(default)]
    pub(crate) next_ms: u64,
    /// Why the last try failed.
    #[serde(default)]
    pub(crate) last_error: Option<String>,
}

/// A callback that was due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Due {
    /// None for a cron.
    pub(crate) callback: Option<CallbackName>,
    pub(crate) payload: Value,
    /// When it was due, in milliseconds since 1970.
    pub(crate) scheduled_ms: u64,
}

impl From<Event> for Delivery {
    fn from(event: Event) -> Self {
        Self { event, callback: None, attempts: 0, next_ms: 0, last_error: None }
    }
}

/// What is posted.
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

/// What becomes of an event that could not be told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is tried again then.
    Again(Delivery),
    /// It has been tried often enough: it must not hold up those behind it any longer.
    SetAside(Delivery),
}

impl Delivery {
    /// What is posted: the same for each try, so that a receiver may know it again.
    pub(crate) fn body(&self, id: EventId) -> Vec<u8> {
        let Event { kind, key, instance, generation, time_ms, outcome, .. } = &self.event;
        let due = self.callback.as_ref();
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
        // It is made of numbers and texts.
        serde_json::to_vec(&body).unwrap_or_default()
    }

    /// After a try that failed. `crowded`: too many wait behind it.
    pub(crate) fn failed(mut self, error: String, now_ms: u64, crowded: bool) -> Next {
        let pause = usize::try_from(self.attempts).ok().and_then(|tries| PAUSES_S.get(tries));
        self.attempts = self.attempts.saturating_add(1);
        self.last_error = Some(error);
        match pause.filter(|_| !crowded) {
            Some(pause_s) => {
                self.next_ms = now_ms.saturating_add(pause_s * 1_000);
                Next::Again(self)
            }
            None => Next::SetAside(self),
        }
    }

    /// As it was before any try.
    pub(crate) fn afresh(self) -> Self {
        Self { attempts: 0, next_ms: 0, last_error: None, ..self }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use berth_common::ids::{Generation, InstanceId, ObjectKey};
    use serde_json::json;

    use super::*;

    pub(crate) fn delivery(name: &str, generation: u64) -> Delivery {
        let key =
            ObjectKey { app: "a".parse().unwrap(), class: "b".parse().unwrap(), name: name.parse().unwrap() };
        Delivery::from(Event {
            kind: HookKind::Stop,
            key,
            instance: Some(InstanceId::from_bytes([1; 16])),
            generation: Generation(generation),
            time_ms: 5,
            outcome: Some(Outcome::exited(3)),
            url: "https://hooks".to_owned(),
            secret: "KEY".to_owned(),
        })
    }

    #[test]
    fn an_event_is_tried_ten_times_over_most_of_a_day_and_set_aside() {
        let (mut current, mut now_ms, mut tries) = (delivery("o", 1), 0, 0);
        let last = loop {
            tries += 1;
            match current.failed("no".to_owned(), now_ms, false) {
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
        assert_eq!(last.afresh(), delivery("o", 1));
        assert!(matches!(delivery("o", 1).failed("no".to_owned(), 0, true), Next::SetAside(_)));
    }

    #[test]
    fn the_body_tells_what_happened_and_is_the_same_for_each_try() {
        let id = EventId { object: delivery("o", 1).event.key.id(), number: [7; NUMBER_BYTES] };
        let body: Value = serde_json::from_slice(&delivery("o", 1).body(id)).unwrap();
        assert_eq!(
            (&body["type"], &body["name"], &body["generation"]),
            (&json!("stop"), &json!("o"), &json!(1))
        );
        assert_eq!((&body["exit"]["code"], &body["id"]), (&json!(3), &json!(id.to_string())));
        assert!(body.get("payload").is_none() && body.get("url").is_none() && body.get("secret").is_none());
        let Next::Again(again) = delivery("o", 1).failed("no".to_owned(), 0, false) else { panic!() };
        assert_eq!(again.body(id), delivery("o", 1).body(id));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("x".parse::<EventId>().is_err() && "00-11".parse::<EventId>().is_err());
    }
}
