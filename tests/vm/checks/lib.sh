# What the checks have in common. Sourced, with `set -euo pipefail` in force.
# shellcheck shell=bash

# shellcheck disable=SC2034 # for those who source this
readonly STATE=/var/lib/berth/agent
readonly EDGE=http://127.0.0.1:80
readonly ADMIN=/var/lib/berth/edge/admin.sock
export BERTH_ADMIN_SOCKET=$ADMIN

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

note() { printf 'note: %s\n' "$*"; }

# await SECONDS WHAT COMMAND...: until it succeeds. TCG is slow, and so is the first start of anything.
await() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || die "$what did not come to be"
    sleep 0.3
  done
}

active() { systemctl is-active --quiet "$@"; }

# get PATH: the response of an instance; fails without one.
get() { curl --silent --show-error --fail --max-time 60 "$EDGE$1"; }

# object NAME FILTER: the edge's view of an object.
object() {
  berth containers list --json | jq -r --arg name "$1" "first(.. | objects | select(.name? == \$name)) | $2"
}

# reason NAME: why an object's last instance ended.
reason() { object "$1" .exit.reason; }

# deploy NAME PREFIX IMAGE LINES...: an app with one class, and lines of its own in it.
deploy() {
  local dir=/var/lib/vm/app-$1
  mkdir -p "$dir"
  {
    printf 'name = "%s"\n\n[[containers]]\nclass_name = "Only"\nimage = "%s"\n' "$1" "$3"
    printf 'default_port = 8080\nstart_timeout = "60s"\nport_timeout = "60s"\n'
    printf '%s\n' "${@:4}"
    printf '\n[[routes]]\npath = "/%s/{id}/*"\nclass = "Only"\nobject = "{id}"\n' "$2"
  } >"$dir/berth.toml"
  berth deploy "$dir"
}
