//! Changes of objects, and what happens to nodes and to what they had, as server-sent events, each with a name and a line of JSON.

use berth_common::happening::Happening;
use berth_common::ids::{AppName, NodeId, ObjectId};
use serde::{Deserialize, Serialize};

use crate::containers::ContainerView;

/// Which objects to watch.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct WatchParameters {
    /// Only objects of this app.
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub app: Option<AppName>,
    /// Only the object with this id.
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub object: Option<ObjectId>,
    /// Only what happens to or on this node. With `happenings` only.
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub node: Option<NodeId>,
    /// In place of changes of objects, what happens to nodes and to what they had, as `GET /v1/events/past` lists it.
    #[serde(default)]
    #[cfg_attr(feature = "schema", param(required = false))]
    pub happenings: bool,
}

/// A page of what has happened, in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct HappeningPage {
    pub happenings: Vec<Happening>,
    /// The cursor of the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// An event of the stream.
#[derive(Debug, Clone)]
pub enum ObjectEvent {
    /// An object was listed or has changed; this is its new state.
    Container(Box<ContainerView>),
    /// Something has happened to a node, or to what it had.
    Happening(Box<Happening>),
    /// The initial state of all objects has been sent; what follows are changes.
    Ready,
    /// The reader was too slow and missed events: it should list the objects again.
    Lagged {
        /// How many events were dropped.
        lost: u64,
    },
}

/// The data of an event that says how many events were dropped.
#[derive(Serialize, Deserialize)]
struct Lost {
    lost: u64,
}

impl ObjectEvent {
    /// The name of the event in the stream.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Container(_) => "container",
            Self::Happening(_) => "happening",
            Self::Ready => "ready",
            Self::Lagged { .. } => "lagged",
        }
    }

    /// The data of the event: JSON without line breaks.
    pub fn data(&self) -> serde_json::Result<String> {
        match self {
            Self::Container(view) => serde_json::to_string(view),
            Self::Happening(happening) => serde_json::to_string(happening),
            Self::Ready => Ok("{}".to_owned()),
            Self::Lagged { lost } => serde_json::to_string(&Lost { lost: *lost }),
        }
    }

    /// Parses an event; none if the name is unknown, which a newer edge may send.
    pub fn read(name: &str, data: &[u8]) -> serde_json::Result<Option<Self>> {
        Ok(match name {
            "container" => Some(Self::Container(serde_json::from_slice(data)?)),
            "happening" => Some(Self::Happening(serde_json::from_slice(data)?)),
            "ready" => Some(Self::Ready),
            "lagged" => serde_json::from_slice(data).map(|Lost { lost }| Some(Self::Lagged { lost }))?,
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_the_stream() {
        let happening = serde_json::from_str(r#"{"number":1,"time_ms":2,"kind":"node_lost","node":"n1"}"#);
        let happening = ObjectEvent::Happening(happening.unwrap());
        for event in [ObjectEvent::Ready, ObjectEvent::Lagged { lost: 7 }, happening] {
            let data = event.data().unwrap();
            let read = ObjectEvent::read(event.name(), data.as_bytes()).unwrap().unwrap();
            assert_eq!((read.name(), read.data().unwrap()), (event.name(), data));
        }
        assert!(ObjectEvent::read("newer", b"1").unwrap().is_none());
        assert!(ObjectEvent::read("container", b"{}").is_err());
    }
}
