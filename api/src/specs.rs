//! An app's specification as it is shown. Values that may be secrets (of environment variables, bodies of requests) are
//! not in these types: what holds one of them can show none.
//!
//! Every field of the specification is named here once, so that a new one is shown only once somebody has decided that
//! it may be.

use std::collections::{BTreeMap, BTreeSet};

use berth_common::ids::{AppName, CallbackName, ClassName, SecretName, VariableName};
use berth_common::spec::{
    Action, AppLimits, AppSpec, AssetsSpec, BeforeAssets, Capability, ClassSpec, CronSpec, HooksSpec,
    ImageRef, LogSpec, OnNodeGone, PlacementSpec, Program, ProgramLimits, ProgramModule, ProgramRoute,
    ProgramVar, Recipe, RequestAction, Resources, RouteSpec, Secrets, StartBoost, StartRates, StoredSecret,
    TimeOrNever,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value that is not shown. In JSON an empty text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut;

impl Serialize for LeftOut {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("")
    }
}

impl<'de> Deserialize<'de> for LeftOut {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// The names of environment variables, without their values.
pub type Names = BTreeMap<String, LeftOut>;

/// One version of an app.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AppSpecView {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub name: AppName,
    /// Its classes by name.
    #[cfg_attr(feature = "schema", schema(value_type = BTreeMap<String, ClassSpecView>))]
    pub classes: BTreeMap<ClassName, ClassSpecView>,
    /// Its routes; the first that matches a request takes it.
    pub routes: Vec<RouteSpec>,
    /// What all its live instances may take together.
    #[serde(default)]
    pub limits: AppLimits,
    /// How many new objects requests may start.
    #[serde(default)]
    pub start_rate: StartRates,
    /// Files that the edge serves itself.
    #[serde(default)]
    pub assets: Option<AssetsSpec>,
    /// What is done again and again.
    #[serde(default)]
    pub crons: Vec<CronSpecView>,
    /// How the output of its instances is kept.
    #[serde(default)]
    pub logs: LogSpec,
    /// The JavaScript that the edge runs for its requests.
    #[serde(default)]
    pub program: Option<ProgramView>,
}

/// The program of an app.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ProgramView {
    /// The name of the module whose exports are the handlers.
    pub entry: String,
    /// All modules.
    pub modules: Vec<ProgramModule>,
    /// The day of which the runtime's behaviour is meant.
    pub compatibility_date: String,
    /// Compatibility flags.
    #[serde(default)]
    pub compatibility_flags: BTreeSet<String>,
    /// The handlers of the default export that its syntax shows.
    #[serde(default)]
    pub handlers: BTreeSet<String>,
    /// The classes that the entry exports, as far as syntax shows.
    #[serde(default)]
    pub classes: BTreeSet<String>,
    /// The classes whose instances are objects that keep something, each with its first name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schema(value_type = BTreeMap<String, String>))]
    pub object_classes: BTreeMap<ClassName, ClassName>,
    /// The classes whose namespaces are in `env`, by the names that they have there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schema(value_type = BTreeMap<String, String>))]
    pub durable_objects: BTreeMap<String, ClassName>,
    /// The names of its variables. Their values are left out: they may be secrets.
    #[serde(default)]
    pub vars: BTreeMap<String, VarView>,
    /// The names of its secrets, by the names that they have in `env`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = BTreeMap<String, String>))]
    pub secrets: BTreeMap<VariableName, SecretName>,
    /// The names of secrets of stores, by the names that they have in `env`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub store_secrets: BTreeMap<String, StoredSecret>,
    /// The name in `env` of the app's static files.
    #[serde(default)]
    pub assets_binding: Option<String>,
    /// Which requests it gets before the static files.
    #[serde(default)]
    pub before_assets: BeforeAssets,
    /// The requests that are the program's. All where there are none.
    #[serde(default)]
    pub routes: Vec<ProgramRoute>,
    /// When `scheduled` is called, in UTC.
    #[serde(default)]
    pub crons: Vec<String>,
    /// What one event may use.
    #[serde(default)]
    pub limits: ProgramLimits,
}

/// A variable of a program, without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum VarView {
    /// A text.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    Text(LeftOut),
    /// Another value that JSON has.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    Json(LeftOut),
}

/// One kind of container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ClassSpecView {
    pub image: ImageRef,
    /// Replaces the image's entrypoint and command, where given.
    #[serde(default)]
    pub entrypoint: Option<Vec<String>>,
    /// The names of its environment variables. Their values are left out: they may be secrets.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = BTreeMap<String, String>))]
    pub env: Names,
    pub resources: Resources,
    /// More CPU than that until its port answers.
    #[serde(default)]
    pub start_boost: Option<StartBoost>,
    /// Whether it may reach the internet.
    pub enable_internet: bool,
    /// What its root may do, besides what any user may.
    #[serde(default)]
    pub capabilities: BTreeSet<Capability>,
    /// Whether its first process is Berth's, and the app that one's child.
    #[serde(default)]
    pub init: bool,
    /// Most instances that may live at once, if limited.
    #[serde(default)]
    pub max_instances: Option<u32>,
    /// TCP port that requests go to unless their route says otherwise.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(minimum = 1))]
    pub default_port: Option<u16>,
    /// How long after its last activity an instance is put to sleep, in milliseconds, or `"never"`. The next three are in
    /// milliseconds, too.
    pub sleep_after: TimeOrNever,
    /// How long requests wait for an instance to be placed and started.
    pub start_timeout: u64,
    /// How long they then wait for its port.
    pub port_timeout: u64,
    /// How long after the signal to end an instance is killed.
    pub stop_grace: u64,
    /// At most this much of that is left once a request waits behind a stop for idleness.
    #[serde(default)]
    pub wake_grace: u64,
    /// How many containers each node keeps made and waiting.
    #[serde(default)]
    pub prepared: u32,
    /// Where its containers may be.
    #[serde(default, skip_serializing_if = "PlacementSpec::is_default")]
    pub placement: PlacementSpec,
    /// What becomes of its containers when their nodes are lost or drained.
    #[serde(default, skip_serializing_if = "OnNodeGone::is_default")]
    pub on_node_gone: OnNodeGone,
    /// How long after its node was last heard of a container counts as lost, in milliseconds, or `"never"`; if it is left out, as
    /// the edge has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_loss: Option<TimeOrNever>,
    /// Whether requests to a stopped object are refused instead of starting it.
    #[serde(default)]
    pub manual_start: bool,
    /// Ports that must take connections, besides the default one, before requests are sent.
    #[serde(default)]
    pub required_ports: Vec<u16>,
    /// A path that must be answered on the default port before requests are sent.
    #[serde(default)]
    pub ping_endpoint: Option<String>,
    /// The names of the secrets that its containers get, by the variables that they become.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = BTreeMap<String, String>))]
    pub secrets: Secrets,
    /// Who is told of the lives of its objects.
    #[serde(default)]
    pub hooks: Option<HooksSpec>,
    /// What its objects can do when it is due, by name.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = BTreeMap<String, ActionView>))]
    pub callbacks: BTreeMap<CallbackName, ActionView>,
}

/// Something that is done again and again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CronSpecView {
    /// When, in UTC.
    pub cron: String,
    /// The class of the object.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub class: ClassName,
    /// The object's name.
    pub object: String,
    /// What.
    pub action: ActionView,
}

/// What is done when something is due.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum ActionView {
    /// The object's instance gets a request, and is started for it if need be.
    Request(RequestView),
    /// The object's instance is started, unless it lives.
    Start {
        /// The names of variables that are added to the environment of its class.
        #[serde(default)]
        #[cfg_attr(feature = "schema", schema(value_type = BTreeMap<String, String>))]
        env: Names,
    },
    /// The class's hook is told.
    Hook,
}

/// A request to an instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RequestView {
    pub method: String,
    /// Its path, with a query or without.
    pub path: String,
    /// Null without a body of its own; what that is is left out.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub body: Option<LeftOut>,
    /// The port, where it is not the class's default.
    #[serde(default)]
    pub port: Option<u16>,
}

fn names(env: &BTreeMap<String, String>) -> Names {
    env.keys().map(|name| (name.clone(), LeftOut)).collect()
}

fn ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<&AppSpec> for AppSpecView {
    fn from(spec: &AppSpec) -> Self {
        let AppSpec { name, classes, routes, limits, start_rate, assets, crons, logs, program } = spec;
        Self {
            name: name.clone(),
            classes: classes.iter().map(|(name, class)| (name.clone(), class.into())).collect(),
            routes: routes.clone(),
            limits: *limits,
            start_rate: *start_rate,
            assets: assets.clone(),
            crons: crons.iter().map(CronSpecView::from).collect(),
            logs: *logs,
            program: program.as_ref().map(ProgramView::from),
        }
    }
}

impl From<&Program> for ProgramView {
    fn from(program: &Program) -> Self {
        let Program {
            entry,
            modules,
            compatibility_date,
            compatibility_flags,
            handlers,
            classes,
            object_classes,
            durable_objects,
            vars,
            secrets,
            store_secrets,
            assets_binding,
            before_assets,
            routes,
            crons,
            limits,
        } = program.clone();
        let var = |(name, var)| match var {
            ProgramVar::Text(_) => (name, VarView::Text(LeftOut)),
            ProgramVar::Json(_) => (name, VarView::Json(LeftOut)),
        };
        Self {
            entry,
            modules,
            compatibility_date,
            compatibility_flags,
            handlers,
            classes,
            object_classes,
            durable_objects,
            vars: vars.into_iter().map(var).collect(),
            secrets,
            store_secrets,
            assets_binding,
            before_assets,
            routes,
            crons: crons.iter().map(|cron| cron.as_str().to_owned()).collect(),
            limits,
        }
    }
}

impl From<&ClassSpec> for ClassSpecView {
    fn from(class: &ClassSpec) -> Self {
        let ClassSpec {
            recipe:
                Recipe { image, entrypoint, env, resources, start_boost, enable_internet, capabilities, init },
            max_instances,
            default_port,
            sleep_after,
            start_timeout,
            port_timeout,
            stop_grace,
            wake_grace,
            prepared,
            placement,
            on_node_gone,
            node_loss,
            manual_start,
            required_ports,
            ping_endpoint,
            secrets,
            hooks,
            callbacks,
            of_app: _,
        } = class;
        Self {
            image: image.clone(),
            entrypoint: entrypoint.clone(),
            env: names(env),
            resources: *resources,
            start_boost: *start_boost,
            enable_internet: *enable_internet,
            capabilities: capabilities.clone(),
            init: *init,
            max_instances: *max_instances,
            default_port: *default_port,
            sleep_after: *sleep_after,
            start_timeout: ms(*start_timeout),
            port_timeout: ms(*port_timeout),
            stop_grace: ms(*stop_grace),
            wake_grace: ms(*wake_grace),
            prepared: *prepared,
            placement: placement.clone(),
            on_node_gone: *on_node_gone,
            node_loss: *node_loss,
            manual_start: *manual_start,
            required_ports: required_ports.clone(),
            ping_endpoint: ping_endpoint.clone(),
            secrets: secrets.clone(),
            hooks: hooks.clone(),
            callbacks: callbacks.iter().map(|(name, action)| (name.clone(), action.into())).collect(),
        }
    }
}

impl From<&CronSpec> for CronSpecView {
    fn from(CronSpec { cron, class, object, action }: &CronSpec) -> Self {
        let (cron, object) = (cron.as_str().to_owned(), object.to_string());
        Self { cron, class: class.clone(), object, action: action.into() }
    }
}

impl From<&Action> for ActionView {
    fn from(action: &Action) -> Self {
        match action {
            Action::Request(RequestAction { method, path, body, port }) => Self::Request(RequestView {
                method: method.clone(),
                path: path.clone(),
                body: body.as_ref().map(|_| LeftOut),
                port: *port,
            }),
            Action::Start { env } => Self::Start { env: names(env) },
            Action::Hook => Self::Hook,
        }
    }
}
