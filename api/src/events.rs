//! Objects as they change, for those who watch: server-sent events, each with a name and a line of JSON.

use berth_common::ids::{AppName, ObjectId};
use serde::{Deserialize, Serialize};

use crate::containers::ContainerView;

/// Which objects are watched.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct WatchParameters {
    /// Only those of this app.
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub app: Option<AppName>,
    /// Only this one.
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub object: Option<ObjectId>,
}

/// What is told of objects.
#[derive(Debug, Clone)]
pub enum ObjectEvent {
    /// An object is like this now.
    Container(Box<ContainerView>),
    /// All that there was when the watch began has been told; what follows are changes.
    Ready,
    /// Whoever reads was too slow, and should look again.
    Lagged {
        /// How many events were lost.
        lost: u64,
    },
}

/// The data of an event that says how much was lost.
#[derive(Serialize, Deserialize)]
struct Lost {
    lost: u64,
}

impl ObjectEvent {
    /// Its name in the stream.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Container(_) => "container",
            Self::Ready => "ready",
            Self::Lagged { .. } => "lagged",
        }
    }

    /// Its data: JSON without line breaks.
    pub fn data(&self) -> serde_json::Result<String> {
        match self {
            Self::Container(view) => serde_json::to_string(view),
            Self::Ready => Ok("{}".to_owned()),
            Self::Lagged { lost } => serde_json::to_string(&Lost { lost: *lost }),
        }
    }

    /// The event with this name and data; none where a newer edge tells of something else.
    pub fn read(name: &str, data: &[u8]) -> serde_json::Result<Option<Self>> {
        Ok(match name {
            "container" => Some(Self::Container(serde_json::from_slice(data)?)),
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
        for event in [ObjectEvent::Ready, ObjectEvent::Lagged { lost: 7 }] {
            let data = event.data().unwrap();
            let read = ObjectEvent::read(event.name(), data.as_bytes()).unwrap().unwrap();
            assert_eq!((read.name(), read.data().unwrap()), (event.name(), data));
        }
        assert!(ObjectEvent::read("newer", b"1").unwrap().is_none());
        assert!(ObjectEvent::read("container", b"{}").is_err());
    }
}
