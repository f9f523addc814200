#!/usr/bin/env bash
# Restarting, killing and upgrading daemons: containers go on, and nothing is forgotten.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$PAYLOAD/tests/vm/checks/lib.sh"

instance() { get /container/kept/env/BERTH_DEPLOYMENT_ID; }
same() { [ "$(instance 2>/dev/null)" = "$before" ]; }
# The inode of the agent's UDP socket.
socket() { ss -H -u -l -n -e 'sport = :4400' | grep -o 'ino:[0-9]*'; }
main_pid() { systemctl show -p MainPID --value "$1"; }
restarted() { [ "$(main_pid "$1")" != "$2" ] && active "$1"; }

before=$(instance)
kept=$(socket)
systemctl restart berth-agent.service
await 30 "the same instance after a restart of the agent" same
[ "$(socket)" = "$kept" ] || die "the agent has another UDP socket: $kept, $(socket)"
active berth-node || die "restarting the agent took the node out of service"

pid=$(main_pid berth-agent)
kill -KILL "$pid"
await 30 "the agent after it was killed" restarted berth-agent "$pid"
await 30 "the same instance after the agent was killed" same

systemctl restart berth-edge.service
await 60 "the same instance after a restart of the edge" same

pid=$(main_pid berth-supervisor)
kill -KILL "$pid"
await 30 "the supervisor after it was killed" restarted berth-supervisor "$pid"
lost() { [ "$(reason kept)" = runtime_lost ]; }
await 60 "the word that the instance was lost" lost
await 60 "another instance" instance >/dev/null
