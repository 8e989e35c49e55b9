#!/usr/bin/env bash
# The service for real, with a file as its source: installed, heard, left alone by a second install, restarted, removed.
# Under launchd on a Mac, under systemd where the user has a manager of his own; elsewhere there is nothing to run it.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(uname)" != Darwin ]; then
  export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$(id -u)}"
  if ! systemctl --user show-environment >/dev/null 2>&1; then
    echo "no systemd runs for this user: only what would be done is shown"
    uv run mertd service install --dry-run -- --weights random:0 --source synth:chords >/dev/null
    exit 0
  fi
fi
folder=$(mktemp -d "$HOME/mertd-service-XXXXXX")
give_up() {
  uv run mertd service logs --lines 50 || true
  uv run mertd service uninstall || true
  rm -rf "$folder"
}
trap give_up EXIT
pid() { uv run mertd service status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["pid"])'; }

uv run python -c "
import numpy, soundfile
time = numpy.arange(600 * 24_000) / 24_000
soundfile.write('$folder/tone.flac', 0.3 * numpy.sin(2 * numpy.pi * 220 * time), 24_000)"
install=(uv run mertd service install -- --source "file:$folder/tone.flac" --weights "random:0?size=tiny" --layers 2 --window 2 --hop 1)
"${install[@]}"
uv run mertd service status
uv run mertd tail --count 3 --timeout 60
first=$(pid)
"${install[@]}"
[ "$(pid)" = "$first" ] || { echo "a second install has interrupted the service"; exit 1; }
uv run mertd service restart
[ "$(pid)" != "$first" ] || { echo "a restart has changed nothing"; exit 1; }
uv run mertd tail --count 1 --timeout 60
if [ "$(uname)" = Darwin ]; then
  plutil -lint "$HOME/Library/LaunchAgents/local.mertd.plist" "$HOME/Library/Application Support/mertd/mertd.app/Contents/Info.plist"
  codesign --verify --strict --verbose "$HOME/Library/Application Support/mertd/mertd.app"
  launchctl print "gui/$(id -u)/local.mertd"
fi
trap - EXIT
uv run mertd service uninstall
rm -rf "$folder"
if uv run mertd service status; then
  echo "it is still there"
  exit 1
fi
