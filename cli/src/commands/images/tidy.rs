//! `berth images delete` and `gc`.

use anyhow::Result;
use berth_common::image::Named;

use crate::admin::Admin;
use crate::args::Show;

pub(super) async fn delete(_admin: &Admin, _image: &Named, _force: bool, _dry_run: bool) -> Result<()> {
    Ok(())
}

pub(super) async fn gc(_dry_run: bool, _show: &Show) -> Result<()> {
    Ok(())
}
