#!/usr/bin/env bash
# What a container is held to on cgroup v2 and xfs: memory, disk by project quota, CPU, its network.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$PAYLOAD/tests/vm/checks/lib.sh"

check_disk() {
  local said
  berth nodes --json | jq -e '[.. | objects | select(.limit? == "project_quota")] | length == 1' >/dev/null ||
    die "the node does not limit disks by project quota: $(berth nodes --json)"
  said=$(curl --silent --max-time 120 "$EDGE/container/disk/fill/300000000")
  [[ $said == *"No space left"* || $said == *"quota"* ]] || die "300 MB fit on a disk of 200 MB: $said"
  note "disk: $said"
  get /container/disk/ >/dev/null || die "the instance with the full disk is gone"
}

probe_ended() { [ "$(reason memory)" = oom ]; }

check_memory() {
  curl --silent --max-time 60 "$EDGE/probe/memory/bomb/memory/1024" >/dev/null || true
  await 30 "an instance ended for want of memory" probe_ended
  get /container/first/ >/dev/null || die "its neighbour is gone"
  active berth-supervisor || die "the supervisor is gone"
}

check_network() {
  local interfaces
  interfaces=$(get /container/first/net | tr -s ' \n' ' ')
  [[ $interfaces == *lo* && $interfaces != *eth* ]] || die "an instance without internet has $interfaces"
}

# Inside a container the call fails as if the kernel lacked it; on this machine it exists.
check_alg() {
  modprobe af_alg
  grep -q '^ALG ' /proc/net/protocols || die "this kernel has no AF_ALG"
  [ "$(get /probe/alg/probe/socket-alg)" = EAFNOSUPPORT ] || die "AF_ALG is reached: $(get /probe/alg/probe/socket-alg)"
}

check_cpu() {
  local group before after
  get /spin/one/ >/dev/null
  group=$(find /sys/fs/cgroup/system.slice/berth-supervisor.service -maxdepth 1 -name 'container-*' -exec \
    sh -c 'grep -q "^6250 " "$1/cpu.max" && echo "$1"' sh {} \; | head -n 1)
  [ -n "$group" ] || die "no group is limited to a sixteenth of a CPU"
  curl --silent --max-time 20 "$EDGE/spin/one/bomb/spin/8" >/dev/null &
  sleep 2
  before=$(sed -n 's/^usage_usec //p' "$group/cpu.stat")
  sleep 4
  after=$(sed -n 's/^usage_usec //p' "$group/cpu.stat")
  wait
  note "a sixteenth of a CPU for 4 s: $(((after - before) / 1000)) ms"
  if [ $((after - before)) -gt 320000 ] || [ $((after - before)) -lt 100000 ]; then die "it took $((after - before)) us"; fi
}

deploy probe probe "$PAYLOAD/bin/berth-probe" 'instance_type = { vcpu = 0.25, memory = "128MiB", disk = "200MB" }' \
  'enable_internet = false' 'prepared = 0'
check_disk
check_memory
check_network
check_alg
deploy spin spin "$PAYLOAD/bin/berth-probe" 'instance_type = { vcpu = 0.0625, memory = "128MiB", disk = "200MB" }' \
  'enable_internet = false' 'prepared = 0' 'start_boost = false'
check_cpu
