//! Which paths into its own crate a source file names, wherever they stand: in `use`, in code, in the arguments of macros.
//! Code that only tests are built from is left out.

use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, File, ItemMod, ItemUse, Macro, UseTree};

/// A module of a crate, from its root: `["shard", "link"]`.
pub(crate) type Module = Vec<String>;

/// A source file of a crate.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) module: Module,
    /// What it names in its own crate, from the root.
    pub(crate) names: Vec<Module>,
}

/// All source files of the crate in this directory, but those of its tests.
pub(crate) fn of_crate(directory: &Path) -> Vec<Source> {
    let root = directory.join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    let sources = files.into_iter().map(|path| {
        let module = module_of(path.strip_prefix(&root).unwrap());
        let file = syn::parse_file(&std::fs::read_to_string(&path).unwrap()).unwrap();
        Source { names: names_in(&file, &module), path, module }
    });
    sources.collect()
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !matches!(name, "tests" | "bin") {
            walk(&path, files);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            files.push(path);
        }
    }
}

/// `shard/link/mod.rs` and `shard/link.rs` are `shard::link`; `lib.rs` and `main.rs` are the root.
fn module_of(file: &Path) -> Module {
    let path = file.with_extension("");
    let mut module: Module = path.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        module.pop();
    }
    module
}

fn names_in(file: &File, module: &[String]) -> Vec<Module> {
    let mut finder = Finder { module: module.to_vec(), names: Vec::new() };
    finder.visit_file(file);
    finder.names
}

struct Finder {
    /// The module that is being read: the file's, or one inside it.
    module: Module,
    names: Vec<Module>,
}

impl Finder {
    /// Takes a path that may lead into the crate.
    fn take(&mut self, path: &[String]) {
        let ups = path.iter().take_while(|part| *part == "super").count();
        let base: &[String] = match path.first().map(String::as_str) {
            Some("crate") => &[],
            Some("super") => &self.module[..self.module.len().saturating_sub(ups)],
            _ => return,
        };
        let rest = &path[ups.max(1)..];
        self.names.push(base.iter().chain(rest).cloned().collect());
    }

    fn take_tree(&mut self, tree: &UseTree, before: &mut Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.take_tree(&path.tree, before);
                before.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|item| self.take_tree(item, before)),
            UseTree::Name(name) => self.take(&[&before[..], &[name.ident.to_string()]].concat()),
            UseTree::Rename(rename) => self.take(&[&before[..], &[rename.ident.to_string()]].concat()),
            UseTree::Glob(_) => self.take(before),
        }
    }

    /// Paths in what a macro is given, which is not parsed: names with `::` between them.
    fn take_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.take(&std::mem::take(&mut path));
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                other => {
                    self.take(&std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.take_tokens(group.stream());
                    }
                }
            }
        }
        self.take(&path);
    }
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_for_tests(&item.attrs) {
            self.module.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_for_tests(&item.attrs) {
            self.take_tree(&item.tree, &mut Vec::new());
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.take(&names);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, found: &'ast Macro) {
        self.take_tokens(found.tokens.clone());
        visit::visit_macro(self, found);
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|argument| argument == "test")
    })
}

#[test]
fn paths_are_found_wherever_they_stand() {
    let text = "use crate::a::{b, c as d}; use super::e::*; mod inner { use super::super::f; }
        fn g() { crate::h::i(); println!(\"{}\", crate::j::K); }
        #[cfg(test)] mod tests { use crate::never; }";
    let names = names_in(&syn::parse_str(text).unwrap(), &["m".to_owned(), "n".to_owned()]);
    let names: Vec<String> = names.iter().map(|name| name.join("::")).collect();
    assert_eq!(names, ["a::b", "a::c", "m::e", "m::f", "h::i", "j::K"]);
}
