mod bodies;
mod calls;
mod harness;
mod hostile;
mod loading;
#[path = "../../../tests/plain/mod.rs"]
mod plain;
