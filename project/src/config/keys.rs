//! wrangler's keys: which are used, which mean nothing here, and which make a binding that there is none of. And what an
//! environment takes over from the top level.

/// How a key of the top level behaves in an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The environment takes it over unless it has its own.
    Inherited,
    /// The environment has only its own.
    Own,
    /// There is only that of the top level.
    TopLevel,
}

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It is read.
    Used,
    /// It means nothing here.
    Meaningless,
    /// It would make a binding or feature that there is none of: what to do instead.
    Lacking(&'static str),
}

/// What to do in place of a binding that is to come.
const NOT_YET: &str = "this version of Berth does not have it; remove it, or keep the state in an object";
/// The same for products that are not emulated.
const NEVER: &str = "it is a service of the reference's that Berth does not have; remove it, and call such a service over HTTP";

/// All known keys.
pub(super) const KEYS: &[(&str, Reach, Use)] = {
    use Reach::{Inherited, Own, TopLevel};
    use Use::{Lacking, Meaningless, Used};
    &[
        ("name", Inherited, Used),
        ("main", Inherited, Used),
        ("compatibility_date", Inherited, Used),
        ("compatibility_flags", Inherited, Used),
        ("vars", Own, Used),
        ("define", Own, Used),
        ("alias", TopLevel, Used),
        ("rules", Inherited, Used),
        ("tsconfig", Inherited, Used),
        ("jsx_factory", Inherited, Used),
        ("jsx_fragment", Inherited, Used),
        ("keep_names", Inherited, Used),
        ("durable_objects", Own, Used),
        ("migrations", Inherited, Used),
        ("exports", Inherited, Used),
        ("containers", Own, Used),
        ("triggers", Inherited, Used),
        ("assets", Inherited, Used),
        ("route", Inherited, Used),
        ("routes", Inherited, Used),
        ("secrets", Own, Used),
        ("secrets_store_secrets", Own, Used),
        ("observability", Inherited, Used),
        ("limits", Inherited, Used),
        ("build", Inherited, Used),
        ("dev", TopLevel, Used),
        ("env", TopLevel, Used),
        // Editors read it: nobody takes it for more.
        ("$schema", TopLevel, Used),
        ("account_id", Inherited, Meaningless),
        ("workers_dev", Inherited, Meaningless),
        ("preview_urls", Inherited, Meaningless),
        ("previews", Inherited, Meaningless),
        ("placement", Inherited, Meaningless),
        ("logpush", Inherited, Meaningless),
        ("logfwdr", Inherited, Meaningless),
        ("send_metrics", TopLevel, Meaningless),
        ("compliance_region", Inherited, Meaningless),
        ("legacy_env", TopLevel, Meaningless),
        ("keep_vars", TopLevel, Meaningless),
        ("usage_model", Inherited, Meaningless),
        ("first_party_worker", Inherited, Meaningless),
        ("cache", Inherited, Meaningless),
        ("python_modules", Inherited, Meaningless),
        ("cloudchamber", Own, Meaningless),
        ("tail_consumers", Own, Meaningless),
        ("streaming_tail_consumers", Own, Meaningless),
        // Modules stay files of their own, with maps to their sources.
        ("no_bundle", Inherited, Meaningless),
        ("minify", Inherited, Meaningless),
        ("upload_source_maps", Inherited, Meaningless),
        ("find_additional_modules", Inherited, Meaningless),
        ("preserve_file_names", Inherited, Meaningless),
        ("base_dir", Inherited, Meaningless),
        ("services", Own, Lacking(NOT_YET)),
        ("version_metadata", Own, Lacking(NOT_YET)),
        ("ratelimits", Own, Lacking(NOT_YET)),
        ("kv_namespaces", Own, Lacking(NOT_YET)),
        ("r2_buckets", Own, Lacking(NOT_YET)),
        ("d1_databases", Own, Lacking(NOT_YET)),
        ("queues", Own, Lacking(NOT_YET)),
        ("workflows", Own, Lacking(NOT_YET)),
        ("ai", Own, Lacking(NEVER)),
        ("ai_search", Own, Lacking(NEVER)),
        ("ai_search_namespaces", Own, Lacking(NEVER)),
        ("analytics_engine_datasets", Own, Lacking(NEVER)),
        ("artifacts", Own, Lacking(NEVER)),
        ("browser", Own, Lacking(NEVER)),
        ("dispatch_namespaces", Own, Lacking(NEVER)),
        ("flagship", Own, Lacking(NEVER)),
        ("hyperdrive", Own, Lacking(NEVER)),
        ("images", Own, Lacking(NEVER)),
        ("media", Own, Lacking(NEVER)),
        ("mtls_certificates", Own, Lacking(NEVER)),
        ("pipelines", Own, Lacking(NEVER)),
        ("send_email", Own, Lacking(NEVER)),
        ("stream", Own, Lacking(NEVER)),
        ("unsafe", Own, Lacking(NEVER)),
        ("unsafe_hello_world", Own, Lacking(NEVER)),
        ("vectorize", Own, Lacking(NEVER)),
        ("vpc_networks", Own, Lacking(NEVER)),
        ("vpc_services", Own, Lacking(NEVER)),
        ("worker_loaders", Own, Lacking(NEVER)),
        ("wasm_modules", TopLevel, Lacking("WebAssembly cannot be run; remove it")),
        ("text_blobs", TopLevel, Lacking("import the files as modules, with `rules` for their type")),
        ("data_blobs", TopLevel, Lacking("import the files as modules, with `rules` for their type")),
        ("site", TopLevel, Lacking("use `assets` with a `directory`")),
        (
            "pages_build_output_dir",
            TopLevel,
            Lacking("Pages projects cannot be deployed; use `main` and `assets`"),
        ),
    ]
};

/// What is known of a key.
pub(super) fn known(key: &str) -> Option<(Reach, Use)> {
    KEYS.iter().find(|(known, ..)| *known == key).map(|(_, reach, used)| (*reach, *used))
}

/// The names of all keys that an environment, or the top level, may have.
pub(super) fn names(in_environment: bool) -> Vec<&'static str> {
    let allowed = |reach: &Reach| !in_environment || *reach != Reach::TopLevel;
    KEYS.iter().filter(|(_, reach, _)| allowed(reach)).map(|(name, ..)| *name).collect()
}

/// Keys within containers that mean nothing here.
pub(super) const CONTAINER_MEANINGLESS: [&str; 11] = [
    "affinities",
    "authorized_keys",
    "constraints",
    "durable_objects",
    "rollout_active_grace_period",
    "rollout_kind",
    "rollout_step_percentage",
    "scheduling_policy",
    "ssh",
    "trusted_user_ca_keys",
    "wrangler_ssh",
];

/// Keys that wrangler does not have, and that stand in `berth.toml`.
pub(super) const BERTHS_OWN: [&str; 6] = ["prepared", "capabilities", "init", "node_loss", "regions", "warm"];
