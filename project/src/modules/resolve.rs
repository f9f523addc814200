//! Finds the file that an import means, as the reference's bundler does: conditions of packages, extensions that are left
//! out, aliases, paths of TypeScript's configuration.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oxc_resolver::{
    AliasValue, PackageType, ResolveError, ResolveOptions, ResolverGeneric, TsConfig, TsconfigDiscovery,
    TsconfigOptions, TsconfigReferences,
};

use super::builtins::{self, Builtin};
use super::files::Files;
use crate::config::{Build, Compatibility};
use crate::report::named;

/// What packages are asked for, besides `import` or `require`.
const CONDITIONS: [&str; 4] = ["workerd", "worker", "browser", "default"];
/// Extensions that imports may leave out, in order.
const EXTENSIONS: [&str; 8] = [".tsx", ".ts", ".jsx", ".js", ".mts", ".mjs", ".cjs", ".json"];
/// Extensions that a program in TypeScript names as those of what it becomes.
const STAND_FOR: [(&str, &[&str]); 4] = [
    (".js", &[".js", ".ts", ".tsx"]),
    (".jsx", &[".jsx", ".tsx"]),
    (".mjs", &[".mjs", ".mts"]),
    (".cjs", &[".cjs", ".cts"]),
];
/// Longest specifier, in bytes.
const MAX_SPECIFIER_BYTES: usize = 4096;

/// What an import means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resolved {
    File {
        path: PathBuf,
        /// Whether its package says that its programs are modules.
        module_package: bool,
    },
    /// The package says that there is nothing here.
    Nothing,
    Builtin(String),
}

/// A directory, a specifier, and whether `require` has it.
type Asked = (PathBuf, String, bool);

pub(super) struct Resolver {
    import: ResolverGeneric<Files>,
    require: ResolverGeneric<Files>,
    compatibility: Compatibility,
    aliases: Vec<String>,
    /// What was found already: programs repeat themselves.
    found: RefCell<HashMap<Asked, Result<Resolved, String>>>,
}

impl Resolver {
    pub(super) fn new(base: &Path, build: &Build, compatibility: &Compatibility) -> Self {
        let options = options(base, build);
        let with = |condition: &str| {
            let names = [&[condition], &CONDITIONS[..]].concat();
            ResolveOptions {
                condition_names: names.iter().map(|name| (*name).to_owned()).collect(),
                ..options.clone()
            }
        };
        let import = ResolverGeneric::new(with("import"));
        let require = import.clone_with_options(with("require"));
        let aliases = build.alias.iter().map(|(name, _)| name.clone()).collect();
        Self { import, require, compatibility: compatibility.clone(), aliases, found: RefCell::default() }
    }

    /// What a specifier in a file means, or why nothing.
    pub(super) fn resolve(
        &self,
        importer: &Path,
        specifier: &str,
        require: bool,
    ) -> Result<Resolved, String> {
        let directory = importer.parent().unwrap_or(importer).to_owned();
        let key = (directory, specifier.to_owned(), require);
        if let Some(found) = self.found.borrow().get(&key) {
            return found.clone();
        }
        let found = self.look_for(importer, specifier, require);
        self.found.borrow_mut().insert(key, found.clone());
        found
    }

    fn look_for(&self, importer: &Path, specifier: &str, require: bool) -> Result<Resolved, String> {
        if specifier.is_empty() || specifier.len() > MAX_SPECIFIER_BYTES || specifier.contains('\0') {
            return Err("names nothing".to_owned());
        }
        let aliased =
            self.aliases.iter().any(|name| specifier == name || specifier.starts_with(&format!("{name}/")));
        let builtin = if aliased { None } else { builtins::builtin(specifier, &self.compatibility) };
        match builtin {
            Some(Builtin::Has(name)) => return Ok(Resolved::Builtin(name)),
            Some(Builtin::Lacks(fault)) => return Err(format!("cannot be imported: {fault}")),
            None => {}
        }
        let bare = if aliased { None } else { builtins::bare(specifier, &self.compatibility) };
        if let Some(Builtin::Has(name)) = bare {
            return Ok(Resolved::Builtin(name));
        }
        let resolver = if require { &self.require } else { &self.import };
        match (resolver.resolve_file(importer, specifier), bare) {
            (Ok(found), _) => {
                if let Some(query) = found.query() {
                    return Err(format!("cannot be imported: {} at its end means nothing", named(query)));
                }
                let module_package =
                    found.package_json().is_some_and(|package| package.r#type() == Some(PackageType::Module));
                Ok(Resolved::File { path: found.path().to_owned(), module_package })
            }
            (Err(ResolveError::Ignored(_)), _) => Ok(Resolved::Nothing),
            (Err(_), Some(Builtin::Lacks(fault))) => Err(format!("cannot be imported: {fault}")),
            (Err(error), _) => Err(self.fault(importer, specifier, &error)),
        }
    }

    /// TypeScript's configuration for a file, if there is one.
    pub(super) fn tsconfig(&self, file: &Path) -> Result<Option<Arc<TsConfig>>, String> {
        self.import.find_tsconfig(file).map_err(|error| error.to_string())
    }

    fn fault(&self, importer: &Path, specifier: &str, error: &ResolveError) -> String {
        let package = package_of(specifier);
        match error {
            ResolveError::PackagePathNotExported { subpath, .. } => {
                let package = named(package.unwrap_or(specifier));
                format!(
                    "cannot be imported: the package {package} does not export {} for Workers",
                    named(subpath)
                )
            }
            ResolveError::NotFound(_)
            | ResolveError::ExtensionAlias(..)
            | ResolveError::MatchedAliasNotFound(..) => match package {
                None => "leads to no file".to_owned(),
                Some(package) if is_installed(importer, package) => {
                    format!(
                        "leads to nothing in the package {}; does it have more than types?",
                        named(package)
                    )
                }
                Some(package) => format!(
                    "leads to nothing: the package {} is not installed; run `npm install`",
                    named(package)
                ),
            },
            other => format!("cannot be found: {other}").replace('\n', " "),
        }
    }
}

/// The package that a specifier names, if it is no path.
fn package_of(specifier: &str) -> Option<&str> {
    if specifier.starts_with(['.', '/', '#']) {
        return None;
    }
    let parts = if specifier.starts_with('@') { 2 } else { 1 };
    let end = specifier.match_indices('/').nth(parts - 1).map_or(specifier.len(), |(at, _)| at);
    Some(&specifier[..end])
}

fn is_installed(importer: &Path, package: &str) -> bool {
    importer.ancestors().skip(1).any(|directory| directory.join("node_modules").join(package).is_dir())
}

fn options(base: &Path, build: &Build) -> ResolveOptions {
    let texts = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    let alias = build.alias.iter().map(|(name, value)| {
        let value = if value.starts_with('.') {
            base.join(value).to_string_lossy().into_owned()
        } else {
            value.clone()
        };
        (name.clone(), vec![AliasValue::Path(value)])
    });
    let tsconfig = build.tsconfig.as_ref().map_or(TsconfigDiscovery::Auto, |file| {
        let config_file = base.join(file);
        TsconfigDiscovery::Manual(TsconfigOptions { config_file, references: TsconfigReferences::Auto })
    });
    ResolveOptions {
        cwd: Some(base.to_owned()),
        tsconfig: Some(tsconfig),
        alias: alias.collect(),
        alias_fields: vec![vec!["browser".to_owned()]],
        extensions: texts(&EXTENSIONS),
        extension_alias: STAND_FOR.iter().map(|(named, meant)| ((*named).to_owned(), texts(meant))).collect(),
        main_fields: texts(&["browser", "module", "main"]),
        // A variable of the environment would make one project two.
        node_path: false,
        ..ResolveOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_have_scopes() {
        let cases = [
            ("a", Some("a")),
            ("a/b/c", Some("a")),
            ("@a/b", Some("@a/b")),
            ("@a/b/c", Some("@a/b")),
            ("./a", None),
            ("/a", None),
            ("#a", None),
        ];
        for (specifier, package) in cases {
            assert_eq!(package_of(specifier), package, "{specifier}");
        }
    }
}
