//! What tests write into stores.

use berth_common::ids::{Generation, InstanceId, ObjectKey};
use berth_common::outcome::ExitReason;
use berth_engine::UsageRecord;

/// The life of the instance with this number, which ended then and was a second long.
pub(crate) fn life(n: u32, ended_ms: u64) -> UsageRecord {
    let key = ObjectKey {
        app: "a".parse().unwrap(),
        class: "b".parse().unwrap(),
        name: format!("o{}", n % 3).parse().unwrap(),
    };
    UsageRecord {
        key,
        instance: InstanceId::from_bytes(u128::from(n).to_be_bytes()),
        generation: Generation(1),
        node: "n1".parse().unwrap(),
        region: None,
        started_ms: ended_ms.saturating_sub(1_000),
        lived_cs: ended_ms.min(1_000) / 10,
        cpu_us: 500_000,
        memory_bytes: 1 << 30,
        disk_bytes: 2_000_000_000,
        cpu_sixteenths: 1,
        sent_bytes: 10,
        received_bytes: 20,
        reason: ExitReason::Idle,
        estimated: false,
    }
}
