//! Compiles the first process of containers (`init/main.rs`): a program without any library, which this crate carries.

use std::env;
use std::path::Path;
use std::process::Command;

const SOURCE: &str = "init/main.rs";
/// As small as can be: a page or two, at fixed addresses.
const OPTIONS: [&str; 6] = [
    "panic=abort",
    "opt-level=s",
    "strip=symbols",
    "relocation-model=static",
    "target-feature=+crt-static",
    "force-unwind-tables=no",
];
const LINK: &str = "link-args=-nostartfiles -nostdlib -static -Wl,--build-id=none,-z,noseparate-code,-z,max-page-size=4096,-z,norelro,--no-eh-frame-hdr";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let program = Path::new(&variable("OUT_DIR")).join("init");
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["--edition", "2024", "--crate-name", "init", "--crate-type", "bin", SOURCE, "-o"]);
    rustc.arg(&program).args(["--target", &variable("TARGET"), "-C", LINK]);
    rustc.args(OPTIONS.iter().flat_map(|option| ["-C", option]));
    if env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "musl") {
        // Else Rust adds musl's own start.
        rustc.args(["-C", "link-self-contained=no"]);
    }
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={linker}"));
    }
    let status = rustc.status().unwrap_or_else(|error| panic!("run {rustc:?}: {error}"));
    assert!(status.success(), "{rustc:?}: {status}");
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}
