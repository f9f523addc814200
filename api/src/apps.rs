//! Apps and their versions.

use std::time::Duration;

use berth_common::ids::{AppName, SecretName, Version};
use berth_common::spec::AppSpec;
use serde::{Deserialize, Serialize};

/// How long a deployment waits for nodes unless it says otherwise: as long as a large image takes on a slow link.
pub const PREFETCH_TIMEOUT: Duration = Duration::from_secs(600);

/// An app: its current version, and what that says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AppView {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub name: AppName,
    /// The version that is current.
    #[cfg_attr(feature = "schema", schema(value_type = u64, minimum = 1))]
    pub version: Version,
    /// When that was deployed, in milliseconds since 1970.
    pub created_ms: u64,
    /// What it says. Values of the environment are left out: they may be secrets.
    pub spec: AppSpec,
}

/// The apps of an edge.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AppList {
    pub apps: Vec<AppView>,
}

/// A version, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct VersionView {
    #[cfg_attr(feature = "schema", schema(value_type = u64, minimum = 1))]
    pub version: Version,
    /// When it was deployed, in milliseconds since 1970.
    pub created_ms: u64,
    /// Whether requests are routed by it, and containers started from it.
    pub current: bool,
    /// How many classes it has.
    pub classes: usize,
    /// How many routes it has.
    pub routes: usize,
}

/// The versions of an app.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct VersionList {
    /// The newest first.
    pub versions: Vec<VersionView>,
}

/// What became of a deployment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Deployed {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub app: AppName,
    #[serde(flatten)]
    pub version: VersionView,
    /// How many containers of other versions were told to end.
    pub ended: usize,
    /// Secrets that its classes name and that were not put yet: until they are, those classes' containers do not start.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>, required = true))]
    pub missing_secrets: Vec<SecretName>,
}

/// How a change is made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, default)]
pub struct DeployParameters {
    /// Ends the containers of other versions too, as an order to stop would. Otherwise they live until they sleep.
    #[cfg_attr(feature = "schema", param(required = false))]
    pub now: bool,
    /// How many nodes must hold the images before the version becomes current: `all` (the default) that are connected, take
    /// instances and run them; `none`; or the least number of these.
    #[cfg_attr(feature = "schema", param(required = false, pattern = "^(all|none|[0-9]{1,6})$"))]
    pub prefetch: Option<String>,
    /// How long that may take, in milliseconds; 10 minutes by default. Then nothing is changed.
    #[cfg_attr(feature = "schema", param(required = false, minimum = 0, maximum = 3_600_000))]
    pub prefetch_timeout_ms: Option<u64>,
}

impl DeployParameters {
    /// As the query of a request.
    pub fn query(&self) -> String {
        // What `prefetch` can be needs no encoding; of anything else the edge says that it is wrong.
        let prefetch = self.prefetch.as_ref().map(|nodes| format!("&prefetch={nodes}"));
        let timeout = self.prefetch_timeout_ms.map(|ms| format!("&prefetch_timeout_ms={ms}"));
        format!("now={}{}{}", self.now, prefetch.unwrap_or_default(), timeout.unwrap_or_default())
    }

    /// How long nodes may take to fetch the images.
    pub fn prefetch_timeout(&self) -> Duration {
        self.prefetch_timeout_ms.map_or(PREFETCH_TIMEOUT, Duration::from_millis)
    }
}

/// Which version to go back to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Rollback {
    /// Its number; without, the newest that is older than the current one.
    #[cfg_attr(feature = "schema", schema(value_type = Option<u64>, minimum = 1))]
    pub version: Option<Version>,
    /// Ends the containers of other versions too, as an order to stop would. Otherwise they live until they sleep.
    pub now: bool,
    /// How many nodes must hold the images before: `all` (the default), `none`, or a number, as for a deployment.
    #[cfg_attr(feature = "schema", schema(pattern = "^(all|none|[0-9]{1,6})$"))]
    pub prefetch: Option<String>,
    /// How long that may take, in milliseconds.
    #[cfg_attr(feature = "schema", schema(maximum = 3_600_000))]
    pub prefetch_timeout_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_change_is_made_becomes_a_query() {
        assert_eq!(DeployParameters::default().query(), "now=false");
        let how =
            DeployParameters { now: true, prefetch: Some("all".to_owned()), prefetch_timeout_ms: Some(5) };
        assert_eq!(how.query(), "now=true&prefetch=all&prefetch_timeout_ms=5");
    }
}
