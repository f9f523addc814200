#!/usr/bin/env bash
# The reboot that 01-reboot asked for was one, and what must be there after each boot is there again.
set -euo pipefail

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

! cmp -s /proc/sys/kernel/random/boot_id /var/lib/vm/boot-before || die "the machine has not rebooted"
findmnt -n -t xfs -O prjquota /var/lib/berth-disks >/dev/null || die "/var/lib/berth-disks is not mounted after a reboot"
