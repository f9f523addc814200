#!/usr/bin/env bash
# Uninstalling leaves nothing: no units, programs, processes, users, files.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$PAYLOAD/tests/vm/checks/lib.sh"

"$PAYLOAD/systemd/install" purge --dry-run >/dev/null
active berth-agent || die "a dry run stopped the agent"
"$PAYLOAD/systemd/install" purge
! systemctl list-unit-files --no-legend | grep berth- | grep -v berth-vm || die "units are left"
! pgrep -l -f 'berth-(agent|edge)' || die "processes are left"
left=$(find / -xdev \( -path /run/payload -o -path /var/lib/vm -o -path /proc -o -path /root/certs \) -prune -o \
  -name '*berth*' ! -name '*berth-vm*' ! -path /var/lib/berth-disks -print)
[ -z "$left" ] || die "files are left: $left"
[ -z "$(ls -A /var/lib/berth-disks)" ] || die "disks are left: $(ls -A /var/lib/berth-disks)"
! grep -q '^berth' /etc/passwd /etc/group /etc/subuid /etc/subgid || die "users are left"
[ ! -e /sys/fs/cgroup/system.slice/berth-supervisor.service ] || die "a cgroup is left"
