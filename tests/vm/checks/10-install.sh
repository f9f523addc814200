#!/usr/bin/env bash
# Berth is installed from the checkout; its units start, and a request is answered by a container.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$PAYLOAD/tests/vm/checks/lib.sh"

configure() {
  local certs=/root/certs
  berth certs init --dir "$certs"
  berth certs issue agent n1 --dir "$certs"
  berth certs issue edge e1 --dir "$certs"
  install -m 644 "$certs"/ca.pem /etc/berth/
  install -m 644 "$certs"/agent-n1.pem /etc/berth/agent.pem
  install -m 600 "$certs"/agent-n1.key /etc/berth/agent.key
  install -m 644 "$certs"/edge-e1.pem /etc/berth/edge.pem
  install -m 600 "$certs"/edge-e1.key /etc/berth/edge.key
  sed 's/^BERTH_DISKS=.*/BERTH_DISKS=--disk-slots 12x256MB/' /usr/local/share/berth/agent.env.example >/etc/berth/agent.env
  cp /usr/local/share/berth/edge.env.example /etc/berth/edge.env
}

connected() { berth nodes --json | jq -e '[.. | objects | select(.connected?)] | length == 1' >/dev/null; }

"$PAYLOAD/systemd/install" install --from "$PAYLOAD/bin"
configure
systemctl enable --now berth-node.service berth-edge.service
active berth-prepare berth-supervisor berth-agent berth-node berth-edge || die "not all units are active"
await 60 "the edge's connection with its node" connected
deploy hello container "$PAYLOAD/target/examples/hello" 'instance_type = { vcpu = 0.25, memory = "128MiB", disk = "200MB" }' \
  'enable_internet = false'
get /container/first/ >/dev/null

# The process of a program gives up nearly all that it may do: the unit has to leave it what it needs for that.
program=/var/lib/vm/program
mkdir -p "$program"
printf '{"name": "program", "main": "index.js", "compatibility_date": "2026-01-31"}' >"$program/wrangler.json"
printf 'export default { fetch: () => new Response("of a program") };' >"$program/index.js"
berth deploy "$program"
[ "$(get /any/path)" = "of a program" ] || die "the program does not answer"
berth apps delete program --yes
note "$(berth nodes | tail -n 1)"
for unit in berth-agent berth-supervisor berth-edge; do
  note "$unit: $(systemctl show -p StatusText --value "$unit"); security $(
    systemd-analyze security --no-pager "$unit.service" | sed -n 's/.*Overall exposure level for [^:]*: //p'
  )"
  ! systemctl status --no-pager --full "$unit" | grep -q "status=.*FAILURE" || die "$unit has failed before"
done
[ "$(stat -c %U "/proc/$(systemctl show -p MainPID --value berth-agent)")" = berth ] || die "the agent is not berth's"
