//! The end-to-end scenarios: real daemons, real containers, one cluster each. Named after what they check; grouped by
//! module, so that `just e2e NAME` runs one group or one scenario.

mod bad_input;
mod behind_proxy;
mod bulk;
mod chaos;
mod crowds;
mod dev;
mod differential;
mod edge_restart;
mod failures;
mod images;
mod liars;
mod main_job;
mod neighbours;
mod node_check;
mod node_defaults;
mod node_disk;
mod node_drain;
mod node_first;
mod node_ids;
mod node_images;
mod node_limits;
mod node_network;
mod node_prepared;
mod node_restart;
mod node_stop;
mod nodes;
mod objects;
mod operate;
mod proxying;
mod recovery;
mod script;
mod security;
mod sleep;
mod start_rate;
mod websocket;
