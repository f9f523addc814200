mod bodies;
mod calls;
mod containers;
mod edge;
mod gates;
mod harness;
mod hostile;
mod loading;
mod objects;
mod package;
mod passing;
#[path = "../../../tests/plain/mod.rs"]
mod plain;
mod secrets;
mod sockets;
mod sql;
mod storage;
mod subtle;
