//! Apps and their versions.

use std::time::Duration;

use berth_common::ids::{AppName, SecretName, Version};
use berth_common::spec::StoredSecret;
use serde::{Deserialize, Serialize};

use crate::specs::AppSpecView;

/// How long a deployment waits for nodes unless it says otherwise: enough to fetch a large image over a slow network.
pub const PREFETCH_TIMEOUT: Duration = Duration::from_secs(600);

/// An app and the specification of its current version.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AppView {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub name: AppName,
    /// The number of the current version.
    #[cfg_attr(feature = "schema", schema(value_type = u64, minimum = 1))]
    pub version: Version,
    /// When that version was deployed, in milliseconds since 1970.
    pub created_ms: u64,
    /// Its specification, without values that may be secrets.
    pub spec: AppSpecView,
    /// What the process of its program has in memory now, in bytes, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program_memory_bytes: Option<u64>,
}

/// The apps of an edge.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AppList {
    pub apps: Vec<AppView>,
}

/// A version of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct VersionView {
    #[cfg_attr(feature = "schema", schema(value_type = u64, minimum = 1))]
    pub version: Version,
    /// When it was deployed, in milliseconds since 1970.
    pub created_ms: u64,
    /// Whether this is the current version: requests are routed by it, and containers are started from it.
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

/// The result of a deployment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Deployed {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub app: AppName,
    #[serde(flatten)]
    pub version: VersionView,
    /// How many containers of other versions were told to stop.
    pub ended: usize,
    /// Secrets that its classes name and that are not set: until they are, containers of those classes do not start.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>, required = true))]
    pub missing_secrets: Vec<SecretName>,
    /// Secrets of stores that its program has in `env` and that are not set: until they are, `get()` of each fails.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required = true))]
    pub missing_store_secrets: Vec<StoredSecret>,
    /// Set if the specification is that of the current version: then no version was made.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required = true))]
    pub unchanged: bool,
    /// Why it cannot run, where `allow_unplaceable` had it deployed all the same.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required = true))]
    pub unplaceable: Vec<String>,
}

/// What to remove of a deleted app.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Purge {
    /// Only count what would be removed.
    pub dry_run: bool,
}

/// What was removed of a deleted app, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Purged {
    /// Secrets.
    pub secrets: usize,
    /// Objects, which are in no list any more.
    pub objects: usize,
    /// Values of these objects, and objects of the app's program that kept something.
    pub values: usize,
    /// Schedules and alarms of these objects.
    pub schedules: usize,
    /// Objects that stay for now, because their containers have not ended: purge again.
    pub ending: usize,
}

/// How a change of an app is carried out.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, default)]
pub struct DeployParameters {
    /// Stop the containers of other versions now. Otherwise they run until they sleep.
    #[cfg_attr(feature = "schema", param(required = false))]
    pub now: bool,
    /// How many nodes must hold the images before the version becomes current: `all` (the default), which are those
    /// that are connected, accept instances and can run the images; `none`; or a minimum number of these.
    #[cfg_attr(feature = "schema", param(required = false, pattern = "^(all|none|[0-9]{1,6})$"))]
    pub prefetch: Option<String>,
    /// How long fetching the images may take, in milliseconds; 10 minutes by default. After that the deployment fails
    /// and changes nothing.
    #[cfg_attr(feature = "schema", param(required = false, minimum = 0, maximum = 3_600_000))]
    pub prefetch_timeout_ms: Option<u64>,
    /// Make a version also of a specification that is that of the current one.
    #[cfg_attr(feature = "schema", param(required = false))]
    pub force: bool,
    /// Deploy also what cannot run: no node is connected, or none could ever hold an instance of a class. Otherwise that is
    /// refused (409).
    #[cfg_attr(feature = "schema", param(required = false))]
    pub allow_unplaceable: bool,
}

impl DeployParameters {
    /// The parameters as a query string, without the `?`.
    pub fn query(&self) -> String {
        // Valid values of `prefetch` need no encoding; the edge refuses all others.
        let prefetch = self.prefetch.as_ref().map(|nodes| format!("&prefetch={nodes}"));
        let timeout = self.prefetch_timeout_ms.map(|ms| format!("&prefetch_timeout_ms={ms}"));
        let mut query =
            format!("now={}{}{}", self.now, prefetch.unwrap_or_default(), timeout.unwrap_or_default());
        // What is not asked for is left out: edges of earlier versions do not know these.
        for (name, asked) in [("force", self.force), ("allow_unplaceable", self.allow_unplaceable)] {
            if asked {
                query.push_str(&format!("&{name}=true"));
            }
        }
        query
    }

    /// How long nodes may take to fetch the images.
    pub fn prefetch_timeout(&self) -> Duration {
        self.prefetch_timeout_ms.map_or(PREFETCH_TIMEOUT, Duration::from_millis)
    }
}

/// Which version to roll back to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Rollback {
    /// The number of the version; without it, the newest version that is older than the current one.
    #[cfg_attr(feature = "schema", schema(value_type = Option<u64>, minimum = 1))]
    pub version: Option<Version>,
    /// Stop the containers of other versions now. Otherwise they run until they sleep.
    pub now: bool,
    /// How many nodes must hold the images first: `all` (the default), `none`, or a number, as for a deployment.
    #[cfg_attr(feature = "schema", schema(pattern = "^(all|none|[0-9]{1,6})$"))]
    pub prefetch: Option<String>,
    /// How long fetching the images may take, in milliseconds.
    #[cfg_attr(feature = "schema", schema(maximum = 3_600_000))]
    pub prefetch_timeout_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deploy_parameters_become_a_query() {
        assert_eq!(DeployParameters::default().query(), "now=false");
        let how = DeployParameters {
            now: true,
            prefetch: Some("all".to_owned()),
            prefetch_timeout_ms: Some(5),
            ..DeployParameters::default()
        };
        assert_eq!(how.query(), "now=true&prefetch=all&prefetch_timeout_ms=5");
        let how = DeployParameters { force: true, allow_unplaceable: true, ..DeployParameters::default() };
        assert_eq!(how.query(), "now=false&force=true&allow_unplaceable=true");
    }
}
