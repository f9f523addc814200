#!/usr/bin/env bash
# The machine is what the other checks count on: cgroup v2 alone, systemd without a failed unit, quotas, namespaces.
set -euo pipefail

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# check_cgroups: v2 is the only hierarchy, with what containers are limited by.
check_cgroups() {
  local controller
  [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || die "/sys/fs/cgroup is no cgroup v2"
  ! grep -q ' - cgroup ' /proc/self/mountinfo || die "a cgroup v1 hierarchy is mounted beside v2"
  for controller in cpu memory pids io; do
    grep -qw "$controller" /sys/fs/cgroup/cgroup.controllers || die "cgroup v2 has no controller $controller"
  done
}

check_systemd() {
  local state
  state=$(systemctl is-system-running) || true
  [ "$state" = running ] || {
    systemctl list-units --failed --plain --no-legend
    systemctl list-jobs --no-legend
    die "systemd is $state, not running"
  }
}

# The file system for containers' disks counts projects and holds them to their limits.
check_quotas() {
  local dir=/var/lib/berth-disks/machine-check
  findmnt -n -t xfs -O prjquota /var/lib/berth-disks >/dev/null || die "/var/lib/berth-disks is no xfs with prjquota"
  mkdir "$dir"
  xfs_quota -x -c "project -s -p $dir 77" -c 'limit -p bhard=1m 77' /var/lib/berth-disks >/dev/null
  dd if=/dev/zero of="$dir/small" bs=1k count=512 status=none || die "half of a quota could not be written"
  ! dd if=/dev/zero of="$dir/large" bs=1k count=1024 status=none 2>/dev/null || die "a project quota was exceeded"
  rm -r "$dir"
}

# An ordinary user makes user namespaces, and maps subordinate ids into them, for which newuidmap must be setuid.
check_namespaces() {
  local map
  useradd --create-home vmcheck
  trap 'userdel --remove vmcheck 2>/dev/null' EXIT
  grep -q '^vmcheck:' /etc/subuid || die "useradd gave no subordinate ids"
  map=$(setpriv --reuid=vmcheck --regid=vmcheck --init-groups --reset-env \
    unshare --map-root-user --map-auto --mount --net --pid --fork --kill-child cat /proc/self/uid_map) ||
    die "an ordinary user cannot make a user namespace with subordinate ids"
  [ "$(wc -l <<<"$map")" -eq 2 ] || die "newuidmap mapped nothing: $map"
}

has() { if "${@:2}" >/dev/null 2>&1; then printf 'note: %s: yes\n' "$1"; else printf 'note: %s: no\n' "$1"; fi; }

tell() {
  printf 'note: Linux %s, systemd %s\n' "$(uname -r)" "$(systemctl --version | awk 'NR == 1 { print $2 }')"
  printf 'note: security modules: %s\n' "$(cat /sys/kernel/security/lsm)"
  has Landlock grep -qw landlock /sys/kernel/security/lsm
  has 'AF_ALG sockets' modprobe --all af_alg algif_hash
  has 'loop devices' modprobe loop
  has /dev/net/tun test -c /dev/net/tun
}

check_cgroups
check_systemd
check_quotas
check_namespaces
tell
