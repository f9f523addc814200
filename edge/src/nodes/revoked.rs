//! Nodes whose keys were revoked: no connection to them counts, and none is made with these keys.
//!
//! ```text
//! in use ──revoke: the key is in the store, then refused by TLS──▶ cut off: all its connections end, and no term is given
//!    ▲                                                                  │ its term over: lost, as in `silence`
//!    └───────────────── it shows a certificate with another key ────────┘
//! ```
//!
//! What fails, and what happens then:
//! * The key cannot be written: nothing has changed.
//! * This process is killed once it is written: the next one refuses the key from its start.
//! * A handshake was under way that has passed the check before: its connection is of a place that the node has no more, and is closed.

use berth_certs::KeyHash;
use berth_common::happening::HappeningKind;
use berth_common::ids::NodeId;
use berth_store::RevokedRecord;

use super::Nodes;

impl Nodes {
    /// The key that a node has last shown, to this process.
    pub(crate) fn key_of(&self, id: &NodeId) -> Option<KeyHash> {
        self.lock().nodes.get(id)?.key
    }

    /// An earlier process has revoked a key of this node.
    pub(crate) fn was_revoked(&self, record: &RevokedRecord) {
        if let Some(node) = self.lock().nodes.get_mut(&record.node) {
            node.revoked_ms = Some(record.revoked_ms);
        }
    }

    /// Ends all connections to a node, of which a key is refused by now; new ones are tried.
    pub(crate) fn revoked(&self, record: &RevokedRecord) {
        self.change(|state| {
            state.last_place += 1;
            let number = state.last_place;
            if let Some(node) = state.nodes.get_mut(&record.node) {
                node.place.number = number;
                node.revoked_ms = Some(record.revoked_ms);
            }
            self.tell_places(state);
        });
        let told = "by order: its key counts no more; what runs there pauses once its term is over, and is given up then";
        self.happenings.node(HappeningKind::NodeRevoked, &record.node, told);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use berth_certs::Lifetime;

    use super::super::tests::welcome;
    use super::*;

    #[test]
    fn what_was_connected_before_does_not_count_and_what_comes_with_another_key_does() {
        let id: NodeId = "n".parse().unwrap();
        let nodes = Nodes::new(&[(id.clone(), "a:1".to_owned())].into());
        let key: KeyHash = "ab".repeat(32).parse().unwrap();
        assert_eq!(nodes.key_of(&id), None);
        let from = SystemTime::now();
        nodes.certified(&id, Lifetime { from, until: from + Duration::from_secs(3600) }, key);
        assert_eq!(nodes.key_of(&id), Some(key));
        let welcome = welcome(id.clone(), 1 << 30);
        assert!(nodes.up(0, &welcome));
        let mut places = nodes.places();
        places.mark_unchanged();
        let record = RevokedRecord { key: key.to_string(), node: id.clone(), revoked_ms: 7 };
        nodes.revoked(&record);
        assert!(places.has_changed().unwrap(), "links are told");
        let place = places.borrow()[&id].number;
        nodes.down(&id);
        assert!(!nodes.up(0, &welcome), "its handshake was before");
        assert_eq!(nodes.views()[0].revoked_ms, Some(7));
        assert!(nodes.up(place, &welcome));
        assert_eq!(nodes.views()[0].revoked_ms, None, "it has another key");
    }
}
