//! What the pages name is there: files, functions, and the targets of links.
//!
//! Only names in backquotes outside blocks of code are looked at. One with a `/`, or that ends with `.rs`, is a path;
//! `{a,b}` stands for several; absolute paths and routes (with a `/` in front) are not of this repository. A path
//! starts at the root of the repository, or, where it has no `src/`, may be in the `src` of the crate that the page
//! named last before it. `Type::item` is a function of that type or a variant of that enum, and `module::function` a
//! function, in a file that the page names; `module::module` and `module::Type` may be of any crate.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use syn::{ImplItem, Item, TraitItem, Type};

use super::workspace;

/// The pages whose names in backquotes are checked.
const PAGES: [&str; 3] = ["ARCHITECTURE.md", "CONTRIBUTING.md", "docs/request-life.md"];
/// Where other pages are: directories, with what is below them. Of these, links are checked, and paths of source files.
const OTHERS: [&str; 2] = ["docs", "examples"];

#[test]
fn every_file_and_function_that_a_page_names_exists() {
    let faults: Vec<String> = PAGES.into_iter().flat_map(faults_of).collect();
    assert!(faults.is_empty(), "named, and not there:\n{}", faults.join("\n"));
}

#[test]
fn every_link_leads_to_a_file() {
    let pages = all_pages();
    let broken: Vec<String> = pages.iter().flat_map(|page| broken_links(page)).collect();
    assert!(pages.len() > PAGES.len() && broken.is_empty(), "links to nothing:\n{}", broken.join("\n"));
}

#[test]
fn every_source_file_that_any_page_names_exists() {
    let is_source = |name: &&str| is_path(name) && (name.ends_with(".rs") || name.contains("/src/"));
    let mut missing = Vec::new();
    for page in all_pages().iter().filter(|page| !PAGES.iter().any(|other| page.ends_with(other))) {
        let text = std::fs::read_to_string(page).unwrap();
        let paths = quoted(&text).into_iter().filter(is_source).flat_map(alternatives);
        let absent = paths.filter(|path| find(path, None).is_none());
        missing.extend(absent.map(|path| format!("{}: {path}", page.display())));
    }
    assert!(missing.is_empty(), "named, and not there:\n{}", missing.join("\n"));
}

fn all_pages() -> Vec<PathBuf> {
    let top = files_below(&workspace(), 0, "md");
    let below = OTHERS.iter().flat_map(|directory| files_below(&workspace().join(directory), 2, "md"));
    top.into_iter().chain(below).collect()
}

fn faults_of(page: &str) -> Vec<String> {
    let text = std::fs::read_to_string(workspace().join(page)).unwrap();
    let mut files = Vec::new();
    let mut items = Vec::new();
    let mut faults = Vec::new();
    for name in quoted(&text) {
        if let Some((owner, item)) = name.rsplit_once("::") {
            items.push((name, owner, item));
        } else if is_path(name) {
            for path in alternatives(name) {
                match find(&path, files.last()) {
                    Some(file) => files.push(file),
                    None => faults.push(format!("{page}: {path}")),
                }
            }
        }
    }
    let known = Known::of(&files);
    let missing =
        items.iter().filter(|(_, owner, item)| !known.has(owner, item) && !is_in_module(owner, item));
    faults.extend(missing.map(|(name, ..)| format!("{page}: {name}")));
    faults
}

/// What stands in backquotes, in order, but for blocks of code.
fn quoted(text: &str) -> Vec<&str> {
    let outside = text.split("```").step_by(2);
    outside.flat_map(|part| part.split('`').skip(1).step_by(2)).collect()
}

fn is_path(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/{},".contains(c);
    let looks_like_one = name.contains('/') || name.ends_with(".rs");
    looks_like_one && !name.starts_with('/') && name.chars().all(plain)
}

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`.
fn alternatives(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else { return vec![path.to_owned()] };
    let (names, after) = rest.split_once('}').expect("a brace is closed");
    names.split(',').map(|name| format!("{before}{name}{after}")).collect()
}

/// The path of a file or directory from the root of the repository.
fn find(path: &str, before: Option<&PathBuf>) -> Option<PathBuf> {
    let exists = |path: &PathBuf| workspace().join(path).exists();
    let full = PathBuf::from(path);
    if exists(&full) {
        return Some(full);
    }
    let in_crate = Path::new(before?.iter().next()?).join("src").join(path);
    exists(&in_crate).then_some(in_crate)
}

/// What can be named in the files of a page: types with their functions and variants, modules with their functions.
struct Known(BTreeSet<(String, String)>);

impl Known {
    fn of(files: &[PathBuf]) -> Self {
        let mut known = Self(BTreeSet::new());
        for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs")) {
            let text = std::fs::read_to_string(workspace().join(file)).unwrap();
            let module = module_of(file);
            for item in syn::parse_file(&text).unwrap().items {
                known.add(&module, &item);
            }
        }
        known
    }

    fn has(&self, owner: &str, item: &str) -> bool {
        self.0.contains(&(owner.to_owned(), item.to_owned()))
    }

    fn add(&mut self, module: &str, item: &Item) {
        match item {
            Item::Fn(function) => self.note(module, &function.sig.ident),
            Item::Enum(of) => {
                of.variants.iter().for_each(|variant| self.note(&of.ident.to_string(), &variant.ident));
            }
            Item::Trait(of) => {
                for item in &of.items {
                    if let TraitItem::Fn(function) = item {
                        self.note(&of.ident.to_string(), &function.sig.ident);
                    }
                }
            }
            Item::Impl(of) => {
                let Type::Path(owner) = &*of.self_ty else { return };
                let Some(owner) = owner.path.segments.last() else { return };
                for item in &of.items {
                    if let ImplItem::Fn(function) = item {
                        self.note(&owner.ident.to_string(), &function.sig.ident);
                    }
                }
            }
            _ => {}
        }
    }

    fn note(&mut self, owner: &str, item: &syn::Ident) {
        self.0.insert((owner.to_owned(), item.to_string()));
    }
}

/// `shard` for `edge/src/shard/mod.rs` as for `edge/src/shard.rs`.
fn module_of(file: &Path) -> String {
    let stem = file.file_stem().unwrap();
    let name = if stem == "mod" { file.parent().unwrap().file_name().unwrap() } else { stem };
    name.to_str().unwrap().to_owned()
}

/// Whether some crate has the module `owner` (or is called so, or the crate and the module are both given), with the
/// module or the type `item` in it.
fn is_in_module(owner: &str, item: &str) -> bool {
    let (package, inside) = owner.split_once("::").unwrap_or((owner, ""));
    let of_package = workspace().join(package).join("src").join(inside.replace("::", "/"));
    let crates = std::fs::read_dir(workspace()).unwrap().map(|entry| entry.unwrap().path().join("src"));
    let modules = crates.map(|src| src.join(owner)).chain([of_package]);
    modules.into_iter().any(|module| has_module(&module, item) || declares(&module, item))
}

fn has_module(module: &Path, item: &str) -> bool {
    module.join(format!("{item}.rs")).is_file() || module.join(item).join("mod.rs").is_file()
}

fn declares(module: &Path, name: &str) -> bool {
    let files = [module.join("mod.rs"), module.join("lib.rs"), module.with_extension("rs")];
    let texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    let items = texts.flat_map(|text| syn::parse_file(&text).unwrap().items);
    items.into_iter().any(|item| match item {
        Item::Struct(of) => of.ident == name,
        Item::Enum(of) => of.ident == name,
        Item::Trait(of) => of.ident == name,
        _ => false,
    })
}

fn broken_links(page: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(page).unwrap();
    let outside = text.split("```").step_by(2);
    let targets = outside.flat_map(|part| part.split("](").skip(1)).filter_map(|rest| rest.split(')').next());
    let files = targets.map(|target| target.split('#').next().unwrap_or_default());
    let local = files.filter(|file| !file.is_empty() && !file.contains("://"));
    let broken = local.filter(|file| !page.parent().unwrap().join(file).exists());
    broken.map(|file| format!("{}: {file}", page.display())).collect()
}

/// The files of a kind in a directory, and in those at most so many levels below it.
fn files_below(directory: &Path, levels: usize, extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && levels > 0 {
            files.extend(files_below(&path, levels - 1, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files
}

#[test]
fn paths_and_names_are_distinguished() {
    assert!(is_path("edge/src/{a,b}.rs") && is_path("gather.rs"));
    assert!(!is_path("/dev/fuse") && !is_path("GET /container/7/page") && !is_path("exit.json"));
    assert_eq!(alternatives("a/{b,c}.rs"), ["a/b.rs", "a/c.rs"]);
    assert_eq!(quoted("a `b` c\n```\n`d`\n```\n`e`"), ["b", "e"]);
}
