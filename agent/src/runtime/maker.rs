//! Writes the configuration of a container for a shim of the pool. Knows recipes and shims, but no instances.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use berth_common::spec::{LogSpec, Recipe};
use berth_common::wire::call::RefusalCode;
use berth_shim::disk::Disk;
use berth_shim::messages::{Assignment, ContainerConfig};
use berth_shim::network::resolver::forwarder_of;
use berth_shim::protection::Protection;
use berth_shim::state_files::write_json_fast;

use super::shim_pool::{PooledShim, ShimKind, ShimPool};
use crate::images::{Image, Images};
use crate::launch::{Launch, LaunchError};
use crate::site::Site;

/// The default `PATH`, if the image sets none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Prefixes of Berth's variables: its own, and the one of the platform that Berth's app model is compatible with.
const VARIABLE_PREFIXES: [&str; 2] = ["BERTH_", "CLOUDFLARE_"];
/// The instance's id, known only once there is an instance.
const DEPLOYMENT_ID: &str = "DEPLOYMENT_ID";
/// The object's id and generation, known only then too.
const PLACEMENT_ID: &str = "PLACEMENT_ID";
/// The names of its app and object, for people. Of Berth's own only.
const NAMES: [&str; 2] = ["BERTH_APP", "BERTH_OBJECT_NAME"];

/// Configures containers.
#[derive(Debug)]
pub(crate) struct Maker {
    pub(crate) site: Site,
    pub(crate) logs: PathBuf,
    /// The layers on disk.
    pub(crate) layers: PathBuf,
    pub(crate) images: Rc<Images>,
    pub(crate) protection: Protection,
    pub(crate) shims: Rc<ShimPool>,
}

impl Maker {
    /// Takes a shim of the pool and writes its container's configuration.
    pub(crate) async fn configure(&self, recipe: &Recipe, disk: &Disk) -> Result<PooledShim, LaunchError> {
        let failed = |e: io::Error| {
            let busy = e.kind() == io::ErrorKind::ResourceBusy;
            let code = if busy { RefusalCode::Capacity } else { RefusalCode::Other };
            LaunchError::new(code, e.to_string())
        };
        let (image, shim) =
            tokio::join!(self.images.get(&recipe.image.digest), self.shims.take(kind_of(recipe)));
        let (image, mut shim) = (image?, shim.map_err(failed)?);
        let config = self.config(recipe, disk, &image, &shim)?;
        let written = write_json_fast(&shim.directory.join("disk.json"), disk)
            .and_then(|()| write_json_fast(&shim.directory.join("shim.json"), &config));
        written.map_err(failed)?;
        shim.image = Some(image);
        Ok(shim)
    }

    fn config(
        &self,
        recipe: &Recipe,
        disk: &Disk,
        image: &Image,
        shim: &PooledShim,
    ) -> Result<ContainerConfig, LaunchError> {
        let args = recipe.entrypoint.clone().unwrap_or_else(|| image.args.clone());
        if args.is_empty() {
            let text =
                format!("the image {} names no entrypoint, and neither does the class", recipe.image.digest);
            return Err(LaunchError::new(RefusalCode::Image, text));
        }
        let env = self.environment(recipe, image);
        check_args_and_env(&args, &env)?;
        let resolver = shim.internet.as_ref().and_then(|internet| internet.resolver);
        Ok(ContainerConfig {
            disk: disk.clone(),
            layers: self.layers_for(shim, image)?,
            cgroup: shim.cgroup.clone(),
            memory_bytes: recipe.resources.memory_bytes,
            cpu_sixteenths: recipe.resources.cpu_sixteenths,
            start_boost: recipe.start_boost,
            resolver: resolver.map(forwarder_of),
            protection: self.protection,
            args,
            env,
            cwd: image.cwd.clone(),
            capabilities: recipe.capabilities.clone(),
            user: image.user.clone(),
            init: recipe.init,
            stop_signal: image.stop_signal,
            volumes: image.volumes.clone(),
            logs: self.logs.clone(),
            log_bytes: LogSpec::default().bytes,
        })
    }

    /// The image's layers, where their files belong to the shim's ids.
    fn layers_for(&self, shim: &PooledShim, image: &Image) -> Result<Vec<PathBuf>, LaunchError> {
        let Some(mount) = &shim.layers else { return Ok(image.layers.clone()) };
        let there = |layer: &PathBuf| layer.strip_prefix(&self.layers).map(|layer| mount.join(layer));
        let all: Result<_, _> = image.layers.iter().map(there).collect();
        all.map_err(|_| LaunchError::new(RefusalCode::Other, "a layer is not among the node's layers"))
    }

    /// The image's environment, overridden by Berth's own variables, overridden by the class's.
    fn environment(&self, recipe: &Recipe, image: &Image) -> BTreeMap<String, String> {
        let mut env = BTreeMap::from([("PATH".to_owned(), DEFAULT_PATH.to_owned())]);
        env.extend(image.env.clone());
        for prefix in VARIABLE_PREFIXES {
            for (name, value) in self.site.variables() {
                env.insert(format!("{prefix}{name}"), value.to_owned());
            }
            // Else the image's own values would override the instance's.
            env.remove(&format!("{prefix}{DEPLOYMENT_ID}"));
            env.remove(&format!("{prefix}{PLACEMENT_ID}"));
        }
        for name in NAMES {
            env.remove(name);
        }
        env.extend(recipe.env.clone());
        env
    }

    /// The values that a container gets when it becomes this instance.
    pub(crate) fn assignment(&self, Launch { start, term_slot, .. }: &Launch, log: PathBuf) -> Assignment {
        let placement = format!("{}-{}", start.object.id(), start.generation.0);
        let variables = [(DEPLOYMENT_ID, start.instance.to_string()), (PLACEMENT_ID, placement)];
        let named = |prefix: &str| variables.clone().map(|(name, value)| (format!("{prefix}{name}"), value));
        let names = [start.object.app.to_string(), start.object.name.to_string()];
        let names = NAMES.map(str::to_owned).into_iter().zip(names);
        Assignment {
            instance: start.instance,
            env: VARIABLE_PREFIXES.into_iter().flat_map(named).chain(names).collect(),
            log,
            logs: start.logs,
            term_slot: *term_slot,
        }
    }
}

/// The kind of shim that a recipe needs.
pub(crate) fn kind_of(recipe: &Recipe) -> ShimKind {
    if recipe.enable_internet { ShimKind::Internet } else { ShimKind::Loopback }
}

fn check_args_and_env(args: &[String], env: &BTreeMap<String, String>) -> Result<(), LaunchError> {
    let has_nul = |text: &String| text.contains('\0');
    let good_variable = |(name, value): (&String, &String)| {
        !has_nul(name) && !has_nul(value) && !name.is_empty() && !name.contains('=')
    };
    if args.iter().any(has_nul) || !env.iter().all(good_variable) {
        let text = "arguments and environment must not hold NUL bytes, nor variables without a proper name";
        return Err(LaunchError::new(RefusalCode::Invalid, text));
    }
    Ok(())
}
