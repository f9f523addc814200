//! The output of containers.

use berth_common::ids::{AppName, ClassName, InstanceId, NodeId, ObjectId, ObjectName};
use berth_common::wire::logs::LogStream;
use serde::{Deserialize, Serialize};

/// Which lines to read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, default)]
pub struct LogParameters {
    /// Only lines from this time on: milliseconds since 1970, or a duration before now, such as `10m`.
    pub since: Option<String>,
    /// Only this many of the last lines, over all containers together.
    #[cfg_attr(feature = "schema", param(maximum = 10000))]
    pub tail: Option<u32>,
    /// Continue with new lines as they are written, until the connection is closed.
    #[cfg_attr(feature = "schema", param(required = false))]
    pub follow: bool,
}

/// A line that a container has written, or a remark by Berth.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LogLine {
    /// When it was written, in milliseconds since 1970, by the clock of the node.
    pub time_ms: u64,
    /// `stdout`, `stderr`, or `berth` for a remark: lines are missing, or a node cannot be asked.
    pub stream: LogStream,
    /// The text without its line break; bytes that are not UTF-8 are replaced.
    pub text: String,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub node: NodeId,
    /// The object that has written it; absent in remarks about a node.
    #[serde(flatten)]
    #[cfg_attr(feature = "schema", schema(inline))]
    pub object: Option<LogObject>,
}

/// The object that has written a line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LogObject {
    /// The object's id: 32 hexadecimal digits, a hash of app, class and name.
    #[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^[0-9a-f]{32}$"))]
    pub id: ObjectId,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub app: AppName,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub class: ClassName,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub name: ObjectName,
    /// The id of the container: 32 hexadecimal digits.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub instance: InstanceId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_names_no_object() {
        let text = r#"{"time_ms":7,"stream":"berth","text":"gone","node":"n1"}"#;
        let line: LogLine = serde_json::from_str(text).unwrap();
        assert!(line.object.is_none());
        assert_eq!(serde_json::to_string(&line).unwrap(), text);
    }
}
