//! Modules that the runtime has itself: which there are, what they export, and what is said of those that it lacks.

use crate::config::Compatibility;

/// Modules of Node that can be imported with the flag `nodejs_compat`.
const NODE: [&str; 16] = [
    "assert",
    "async_hooks",
    "buffer",
    "crypto",
    "diagnostics_channel",
    "events",
    "path",
    "path/posix",
    "process",
    "querystring",
    "stream",
    "string_decoder",
    "timers/promises",
    "url",
    "util",
    "util/types",
];

/// Modules of Node that packages import by their bare names, which cannot be had.
const NODE_LACKING: [&str; 40] = [
    "assert/strict",
    "child_process",
    "cluster",
    "console",
    "constants",
    "dgram",
    "dns",
    "dns/promises",
    "domain",
    "fs",
    "fs/promises",
    "http",
    "http2",
    "https",
    "inspector",
    "module",
    "net",
    "os",
    "path/win32",
    "perf_hooks",
    "punycode",
    "readline",
    "readline/promises",
    "repl",
    "sea",
    "sqlite",
    "stream/consumers",
    "stream/promises",
    "stream/web",
    "sys",
    "test",
    "timers",
    "tls",
    "trace_events",
    "tty",
    "v8",
    "vm",
    "wasi",
    "worker_threads",
    "zlib",
];

/// What `cloudflare:workers` exports.
const WORKERS: [&str; 10] = [
    "DurableObject",
    "WorkerEntrypoint",
    "RpcTarget",
    "env",
    "exports",
    "waitUntil",
    "withEnv",
    "RpcStub",
    "RpcPromise",
    "WorkflowEntrypoint",
];
const SOCKETS: [&str; 1] = ["connect"];

/// Where an import of a module leads that is no file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Builtin {
    /// The runtime has it, under this name.
    Has(String),
    /// Nobody has it: why.
    Lacks(String),
}

/// What a specifier means that names no file and no package. None if it may name one.
pub(super) fn builtin(specifier: &str, compatibility: &Compatibility) -> Option<Builtin> {
    if specifier.starts_with("cloudflare:") {
        let has = exports(specifier).is_some();
        return Some(if has { Builtin::Has(specifier.to_owned()) } else { Builtin::Lacks(lacks(specifier)) });
    }
    if let Some(name) = specifier.strip_prefix("node:") {
        return Some(node(name, compatibility));
    }
    if let Some((scheme, _)) = specifier.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) {
        let fault = match scheme {
            "http" | "https" => "modules cannot be loaded from the network; install it as a package",
            _ => "there are no such modules",
        };
        return Some(Builtin::Lacks(fault.to_owned()));
    }
    None
}

/// A module of Node by its bare name, which packages use and which a package of that name comes before.
pub(super) fn bare(specifier: &str, compatibility: &Compatibility) -> Option<Builtin> {
    let known = NODE.contains(&specifier) || NODE_LACKING.contains(&specifier);
    known.then(|| node(specifier, compatibility))
}

fn node(name: &str, compatibility: &Compatibility) -> Builtin {
    if !NODE.contains(&name) {
        return Builtin::Lacks(lacks(&format!("node:{name}")));
    }
    let storage = name == "async_hooks" && compatibility.flags.contains("nodejs_als");
    if !compatibility.has_node() && !storage {
        return Builtin::Lacks("it needs \"nodejs_compat\" in `compatibility_flags`".to_owned());
    }
    Builtin::Has(format!("node:{name}"))
}

fn lacks(module: &str) -> String {
    format!("Berth does not have {module}")
}

/// Two letters at least: one is a drive of Windows, and no scheme.
fn is_scheme(text: &str) -> bool {
    text.len() > 1
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// What a module of the runtime exports, where that is known.
pub(super) fn exports(module: &str) -> Option<&'static [&'static str]> {
    match module {
        "cloudflare:workers" => Some(&WORKERS),
        "cloudflare:sockets" => Some(&SOCKETS),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_runtime_has_can_be_imported() {
        let with = |flags: &[&str]| Compatibility {
            date: "2025-11-17".to_owned(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        };
        let has = |name: &str| Some(Builtin::Has(name.to_owned()));
        let lacks = |text: &str| Some(Builtin::Lacks(text.to_owned()));
        let flag = lacks("it needs \"nodejs_compat\" in `compatibility_flags`");
        let (bare_runtime, node_runtime) = (with(&[]), with(&["nodejs_compat"]));
        for (specifier, without, with) in [
            ("cloudflare:workers", has("cloudflare:workers"), has("cloudflare:workers")),
            (
                "cloudflare:email",
                lacks("Berth does not have cloudflare:email"),
                lacks("Berth does not have cloudflare:email"),
            ),
            ("node:buffer", flag, has("node:buffer")),
            ("node:fs", lacks("Berth does not have node:fs"), lacks("Berth does not have node:fs")),
            (
                "https://esm.sh/x",
                lacks("modules cannot be loaded from the network; install it as a package"),
                lacks("modules cannot be loaded from the network; install it as a package"),
            ),
            ("bun:sqlite", lacks("there are no such modules"), lacks("there are no such modules")),
            ("./a", None, None),
            ("a", None, None),
        ] {
            assert_eq!(builtin(specifier, &bare_runtime), without, "{specifier}");
            assert_eq!(builtin(specifier, &node_runtime), with, "{specifier}");
        }
        assert_eq!(bare("path", &node_runtime), has("node:path"));
        assert_eq!(bare("fs", &node_runtime), lacks("Berth does not have node:fs"));
        assert_eq!(bare("hono", &node_runtime), None);
        assert_eq!(builtin("node:async_hooks", &with(&["nodejs_als"])), has("node:async_hooks"));
    }
}
