#!/usr/bin/env bash
# Has the machine reboot; 02-rebooted looks whether it did.
set -euo pipefail

cp /proc/sys/kernel/random/boot_id /var/lib/vm/boot-before
touch /var/lib/vm/reboot-wanted
