//! `berth images list` and `info`.

use anyhow::Result;
use berth_common::image::Named;
use serde_json::Value;

use crate::admin::Admin;
use crate::args::Show;
use crate::output;

pub(super) async fn list(args: &Show) -> Result<()> {
    let answer: Value = Admin::find(&args.admin)?.get("/v1/images").await?;
    output::json(&answer)
}

pub(super) async fn info(_image: &Named, args: &Show) -> Result<()> {
    let answer: Value = Admin::find(&args.admin)?.get("/v1/images").await?;
    output::json(&answer)
}
