#!/usr/bin/env bash
# `bash .ci/with-systemd.sh COMMAND...`: with a systemd for this user, on a machine that was not booted by one, as containers are.
# Needs root. All of it is in a mount namespace of its own, and goes with it.
set -euo pipefail
if [ -z "${NAMESPACE_OF_SYSTEMD:-}" ]; then
  NAMESPACE_OF_SYSTEMD=1 exec unshare --mount --propagation private bash "$0" "$@"
fi
unset NAMESPACE_OF_SYSTEMD DBUS_SESSION_BUS_ADDRESS
mkdir -p /run/systemd
mount -t tmpfs -o mode=755 tmpfs /run/systemd
mkdir /run/systemd/system # this is how a manager sees that the machine runs systemd
mkdir -m 700 /run/systemd/runtime /run/systemd/config
export XDG_RUNTIME_DIR=/run/systemd/runtime XDG_CONFIG_HOME=/run/systemd/config
/lib/systemd/systemd --user --log-target=console --log-level=notice &
manager=$!
trap 'systemctl --user exit; wait "$manager" || true' EXIT
for _ in $(seq 100); do
  if systemctl --user show-environment >/dev/null 2>&1; then break; fi
  sleep 0.1
done
"$@"
