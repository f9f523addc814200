//! A cluster on this machine, as child processes: `berth dev` starts one for an app, the tests one for each scenario.
//!
//! ```text
//!  state directory   state_dir      STATE/{bin,certs,logs,edge,n1,n2,...}, held by one process at a time
//!  machine           machine        what root prepares: the daemons' user, their cgroup, disk slots
//!  user              owner          the user that the daemons run as and that owns their files
//!  certificates      certificates   a CA, the edge's and the agents'
//!  commands          launch         what a supervisor, an agent and an edge are started with
//!  processes         process        one child, which ends when this process does, however that ends
//!                    daemons        all of them: watched together, ended in order
//!  what is left      leftovers      processes of an earlier start
//! ```
//!
//! It knows how daemons are started and ended, and not what is deployed, what is asked of the edge, or what a test
//! breaks: each step can be taken by itself.

pub mod certificates;
pub mod cgroup;
pub mod daemons;
pub mod launch;
pub mod leftovers;
pub mod machine;
pub mod owner;
pub mod process;
pub mod ready;
pub mod state_dir;

pub use daemons::{Daemons, Role};
pub use launch::{Group, Launch};
pub use owner::Owner;
pub use process::Process;
pub use state_dir::StateDir;
