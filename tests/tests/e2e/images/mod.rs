//! Images: where they come from, where they go, and who needs them.

mod peer;
