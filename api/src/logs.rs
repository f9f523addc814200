//! What containers have written.

use berth_common::ids::{AppName, ClassName, InstanceId, NodeId, ObjectId, ObjectName};
use berth_common::wire::logs::LogStream;
use serde::{Deserialize, Serialize};

/// Which lines are wanted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, default)]
pub struct LogParameters {
    /// Only from this moment on: milliseconds since 1970, or how long ago, such as `10m`.
    pub since: Option<String>,
    /// Only the last lines, so many in all.
    #[cfg_attr(feature = "schema", param(maximum = 10000))]
    pub tail: Option<u32>,
    /// Go on with what is written later, until one of both sides has enough.
    #[cfg_attr(feature = "schema", param(required = false))]
    pub follow: bool,
}

/// A line that a container has written, or a remark of Berth's own.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LogLine {
    /// When it was written, in milliseconds since 1970, by the node's clock.
    pub time_ms: u64,
    /// `stdout`, `stderr`, or `berth` for a remark: that lines are missing, or that a node cannot be asked.
    pub stream: LogStream,
    /// Without its line break; what is no UTF-8 has been replaced.
    pub text: String,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub node: NodeId,
    /// The object; not in remarks about a node.
    #[serde(flatten)]
    #[cfg_attr(feature = "schema", schema(inline))]
    pub object: Option<LogObject>,
}

/// Whose line it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LogObject {
    /// 32 hexadecimal digits, from app, class and name.
    #[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^[0-9a-f]{32}$"))]
    pub id: ObjectId,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub app: AppName,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub class: ClassName,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub name: ObjectName,
    /// Its container; 32 hexadecimal digits.
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
