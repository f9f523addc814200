//! What a version's program is loaded from: its modules, read by their digests, and what it finds in `env`.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use berth_common::ids::{AppName, ClassName};
use berth_common::image::Digest;
use berth_common::spec::{ImportTarget, MAX_CONTENT_BYTES, Program, ProgramModule, ProgramVar, StoredSecret};
use berth_registry::files::Files;
use berth_script::message::{Limits, Load, Module, Resolution, Variable};

use super::{map, objects};
use crate::secrets::{SecretError, Secrets, Stamp};

/// Content by digest, as programs are made of.
pub(crate) trait Content: Send + Sync {
    /// Reads content whole; none if it is not there. Blocks.
    fn read(&self, digest: &Digest) -> io::Result<Option<Vec<u8>>>;
}

impl Content for Files {
    fn read(&self, digest: &Digest) -> io::Result<Option<Vec<u8>>> {
        // As much as any file of an app may have; a damaged one is an error.
        let most = usize::try_from(MAX_CONTENT_BYTES).unwrap_or(usize::MAX);
        Self::read(self, digest, most).map_err(io::Error::other)
    }
}

/// Why there is nothing to load.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodeError {
    #[error("the module `{module}` is not here: the edge has no content {digest}")]
    Missing { module: String, digest: Digest },
    #[error("the module `{module}` cannot be read: {error}")]
    Unreadable { module: String, error: io::Error },
    #[error("the module `{0}` is no UTF-8")]
    NotText(String),
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The edge is stopping.
    #[error("it was not read: the edge is stopping")]
    Stopping,
}

/// Whose code is read, and from where.
#[derive(Clone)]
pub(super) struct Sources {
    pub(super) content: Arc<dyn Content>,
    pub(super) secrets: Arc<Secrets>,
}

/// What becomes of a secret of the app that cannot be read. One that is not there is left out in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    Fails,
    IsLeftOut,
}

/// What a program is loaded from.
pub(super) struct Read {
    pub(super) load: Load,
    /// What is to be said of it in the app's log.
    pub(super) remarks: Vec<String>,
    /// That of the secrets in its `env`, from before they were read: a change that came in between is seen as one.
    pub(super) stamp: Stamp,
}

impl Sources {
    /// Reads all that a program is loaded from, on a thread that may block.
    /// `contained` are the classes of objects that have containers, by their first names.
    pub(super) async fn load(
        &self,
        app: AppName,
        program: Arc<Program>,
        contained: BTreeSet<ClassName>,
        unreadable: Unreadable,
    ) -> Result<Read, CodeError> {
        let sources = self.clone();
        let reading =
            tokio::task::spawn_blocking(move || sources.read(&app, &program, &contained, unreadable));
        reading.await.unwrap_or(Err(CodeError::Stopping))
    }

    /// A text about a program, with the places in its modules led back to their sources.
    pub(super) async fn led_back(&self, text: String, program: Arc<Program>) -> String {
        if program.modules.iter().all(|module| module.map.is_none()) {
            return text;
        }
        let (sources, whole) = (self.clone(), text.clone());
        let read = move |digest: &Digest| sources.content.read(digest).ok().flatten();
        let leading = tokio::task::spawn_blocking(move || map::led_back(&text, &program, read));
        leading.await.unwrap_or(whole)
    }

    fn read(
        &self,
        app: &AppName,
        program: &Program,
        contained: &BTreeSet<ClassName>,
        unreadable: Unreadable,
    ) -> Result<Read, CodeError> {
        let stamp = self.stamp(app, program);
        let modules: Result<_, _> = program.modules.iter().map(|module| self.module(module)).collect();
        let mut remarks = Vec::new();
        let load = Load {
            modules: modules?,
            resolutions: program.modules.iter().flat_map(resolutions).collect(),
            entry: program.entry.clone(),
            env: self.env(app, program, unreadable, &mut remarks)?,
            compatibility_date: program.compatibility_date.clone(),
            flags: program.compatibility_flags.iter().cloned().collect(),
            objects: program
                .object_classes
                .iter()
                .map(|(class, lineage)| {
                    objects::class(app, class.as_str(), lineage, contained.contains(lineage))
                })
                .collect(),
            limits: limits(program),
        };
        Ok(Read { load, remarks, stamp })
    }

    /// What the program sees of secrets now. Blocks.
    pub(super) fn stamp(&self, app: &AppName, program: &Program) -> Stamp {
        let own = program.secrets.values().map(|name| (app.into(), name.clone()));
        let stored = program.store_secrets.values();
        let stored = stored.map(|StoredSecret { store, name }| (store.into(), name.clone()));
        self.secrets.stamp(own.chain(stored))
    }

    fn module(&self, ProgramModule { name, digest, .. }: &ProgramModule) -> Result<Module, CodeError> {
        let module = || name.clone();
        let read = self.content.read(digest);
        let read = read.map_err(|error| CodeError::Unreadable { module: module(), error })?;
        let bytes = read.ok_or_else(|| CodeError::Missing { module: module(), digest: *digest })?;
        let source = String::from_utf8(bytes).map_err(|_| CodeError::NotText(module()))?;
        Ok(Module { name: module(), source })
    }

    fn env(
        &self,
        app: &AppName,
        program: &Program,
        unreadable: Unreadable,
        remarks: &mut Vec<String>,
    ) -> Result<Vec<(String, Variable)>, CodeError> {
        let value = |var: &ProgramVar| match var {
            ProgramVar::Text(text) => Variable::Text(text.clone()),
            ProgramVar::Json(json) => Variable::Json(json.clone()),
        };
        let vars = program.vars.iter().map(|(name, var)| (name.clone(), value(var)));
        let mut env: Vec<_> = vars.collect();
        for (variable, name) in &program.secrets {
            match self.secrets.get(app, name) {
                Ok(secret) => env.push((variable.to_string(), Variable::Text(secret.expose().to_owned()))),
                // One that was deleted takes nothing else with it.
                Err(error @ SecretError::Missing { .. }) => {
                    remarks.push(format!("`{variable}` is not in env: {error}"));
                }
                Err(_) if unreadable == Unreadable::IsLeftOut => {}
                Err(error) => return Err(error.into()),
            }
        }
        for (variable, secret) in &program.store_secrets {
            env.push((variable.clone(), self.stored(variable, secret, remarks)));
        }
        let namespaces = program.durable_objects.iter();
        env.extend(namespaces.map(|(name, class)| (name.clone(), Variable::Objects(class.to_string()))));
        env.extend(program.assets_binding.iter().map(|name| (name.clone(), Variable::Assets)));
        Ok(env)
    }
}

impl Sources {
    /// A secret of a store, as `env` has it: one that is not there or cannot be read says so to whoever asks for it.
    fn stored(&self, variable: &str, secret: &StoredSecret, remarks: &mut Vec<String>) -> Variable {
        let StoredSecret { store, name } = secret;
        Variable::StoreSecret(match self.secrets.get(store, name) {
            Ok(value) => Ok(value.expose().to_owned()),
            Err(error @ SecretError::Missing { .. }) => Err(error.to_string()),
            Err(error) => {
                remarks.push(format!("`{variable}` in env has no value: {error}"));
                // Keys and files are nothing that a program is told of.
                Err(format!("the secret `{name}` of the store `{store}` cannot be read"))
            }
        })
    }
}

fn resolutions(module: &ProgramModule) -> impl Iterator<Item = Resolution> + '_ {
    module.imports.iter().map(|(specifier, target)| {
        let (ImportTarget::Module(meant) | ImportTarget::Builtin(meant)) = target;
        Resolution { importer: module.name.clone(), specifier: specifier.clone(), module: meant.clone() }
    })
}

fn limits(program: &Program) -> Limits {
    let usual = Limits::default();
    let asked = program.limits;
    Limits {
        cpu_ms: asked.cpu_ms.unwrap_or(usual.cpu_ms),
        subrequests: asked.subrequests.unwrap_or(usual.subrequests),
        ..usual
    }
}
