use std::fs::{self, File, OpenOptions};
use std::io::Write;

use super::*;

/// FUSE and the tree together. An ordinary user cannot mount, so then these tests do nothing.
#[test]
fn a_mounted_disk_is_a_file_system_that_forgets_what_was_not_synced() {
    if !machine::is_root() {
        let refused = Disk::new(Syncs::Kept).mount(Path::new("/")).unwrap_err();
        assert!(refused.to_string().contains("needs root"), "{refused}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let disk = Disk::new(Syncs::Kept);
    let mounted = disk.mount(at).unwrap();
    fs::create_dir(at.join("d")).unwrap();
    fs::write(at.join("d/kept"), "kept").unwrap();
    File::open(at.join("d/kept")).unwrap().sync_all().unwrap();
    fs::rename(at.join("d/kept"), at.join("d/moved")).unwrap();
    File::open(at.join("d")).unwrap().sync_all().unwrap();
    File::open(at).unwrap().sync_all().unwrap();
    let mut lost = OpenOptions::new().append(true).open(at.join("d/moved")).unwrap();
    lost.write_all(b" and more").unwrap();
    drop(lost);
    fs::write(at.join("d/lost"), "lost").unwrap();
    fs::copy(at.join("d/moved"), at.join("copy")).unwrap();
    assert_eq!(fs::read_to_string(at.join("copy")).unwrap(), "kept and more");
    assert_eq!(fs::read_dir(at.join("d")).unwrap().count(), 2);
    drop(std::os::unix::net::UnixListener::bind(at.join("socket")).unwrap());

    mounted.unmount().unwrap();
    assert!(!at.join("d").exists());
    let cut = disk.cut(Loss::Everything);
    assert_eq!(cut, Lost { pages: 3, names: 3 });
    let mounted = disk.mount(at).unwrap();
    assert_eq!(fs::read_to_string(at.join("d/moved")).unwrap(), "kept");
    assert_eq!(fs::read_dir(at.join("d")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(at).unwrap().count(), 1);
    let used = File::open(at.join("d/moved")).unwrap();
    assert!(mounted.unmount().is_err(), "it was unmounted under an open file");
    drop(used);
    assert_eq!(fs::read_dir(at).unwrap().count(), 0);
}
