#!/usr/bin/env bash
# The service as a user runs it, from a wheel, with a file as its source: install it, receive from it, install it again without an
# interruption, restart it, remove it; under systemd, also freeze it, so that the watchdog restarts it. Under launchd on a Mac,
# under the user's systemd on Linux.
set -euo pipefail
cd "$(dirname "$0")/.."
system=$(uname)
if [ "$system" = Linux ]; then
  export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$(id -u)}"
  if ! systemctl --user show-environment >/dev/null 2>&1; then
    [ "$(id -u)" = 0 ] || { echo "no systemd runs for this user: loginctl enable-linger, or be root"; exit 1; }
    exec bash .ci/with-systemd.sh bash "$0"
  fi
fi
probe=$(mktemp)
folder=$(mktemp -d "$HOME/mertd-service-XXXXXX")
mertd=$folder/venv/bin/mertd
give_up() {
  "$mertd" service logs --lines 50 || true
  "$mertd" service uninstall || true
  rm -rf "$folder" "$probe"
}
trap give_up EXIT
pid() { "$mertd" service status --json | "$folder/venv/bin/python" -c 'import json, sys; print(json.load(sys.stdin)["pid"])'; }

if [ "$system" = Linux ]; then PYTHONPATH=tests uv run python tests/service/real_systemd.py; fi
uv venv --quiet "$folder/venv"
uv pip install --quiet --python "$folder/venv/bin/python" .
"$folder/venv/bin/python" -c "
import numpy, soundfile
time = numpy.arange(600 * 24_000) / 24_000
soundfile.write('$folder/tone.flac', 0.3 * numpy.sin(2 * numpy.pi * 220 * time), 24_000)"
install=("$mertd" service install -- --source "file:$folder/tone.flac" --weights "random:0?size=tiny" --layers 2 --window 2 --hop 1)
"${install[@]}"
"$mertd" service status
"$mertd" tail --count 3 --timeout 60
first=$(pid)
"${install[@]}"
[ "$(pid)" = "$first" ] || { echo "the second install interrupted the service"; exit 1; }
"$mertd" service restart
second=$(pid)
[ "$second" != "$first" ] || { echo "the restart did not replace the process"; exit 1; }
"$mertd" tail --count 1 --timeout 60
if [ "$system" = Darwin ]; then
  plutil -lint "$HOME/Library/LaunchAgents/local.mertd.plist" "$HOME/Library/Application Support/mertd/mertd.app/Contents/Info.plist"
  codesign --verify --strict --verbose "$HOME/Library/Application Support/mertd/mertd.app"
  launchctl print "gui/$(id -u)/local.mertd"
else
  systemctl --user show mertd --property Type,WatchdogUSec,ActiveState,StatusText
  grep -q ' / / ro[, ]' "/proc/$second/mountinfo" || { echo "the service could write to the file system"; exit 1; }
  [ ! -e "/proc/$second/root$probe" ] || { echo "the service can see the /tmp of other programs"; exit 1; }
  kill -STOP "$second"
  for _ in $(seq 60); do
    third=$(pid || true)
    if [ "$third" != "$second" ] && [ "$third" != 0 ]; then break; fi
    sleep 1
  done
  [ "$third" != "$second" ] || { echo "the watchdog did not restart a daemon that hangs"; exit 1; }
  "$mertd" tail --count 1 --timeout 60
  "$mertd" service status
fi
trap - EXIT
"$mertd" service uninstall
if "$mertd" service status; then
  echo "the service still exists"
  exit 1
fi
rm -rf "$folder" "$probe"
