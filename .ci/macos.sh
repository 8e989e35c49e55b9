#!/usr/bin/env bash
# Checks that need a Mac. `bash .ci/macos.sh [packages] [parity] [service] [check] [bench] [tests]`; without words, all but packages.
# On Linux it runs as far as it goes there: MLX on the CPU, no Core ML, the service if there is a manager for it.
set -euo pipefail
cd "$(dirname "$0")/.."
export CI=true PYTHONUNBUFFERED=1
seconds=5
[ "$(uname)" = Darwin ] || seconds=1 # MLX on a CPU is slow
synced=''

# What the tests need, and the Python that Homebrew has if that is the one to be used.
packages() {
  brew install --quiet groff jq zeromq msgpack pkgconf ffmpeg prometheus
  [ "${UV_PYTHON_PREFERENCE:-}" != only-system ] || brew install --quiet "python@$UV_PYTHON"
}

sync() {
  [ -z "$synced" ] || return 0
  synced=yes
  command -v uv >/dev/null || pipx install uv || python3 -m pip install --quiet uv
  uv sync --quiet
  uv run python -c 'import sys, sysconfig; print(sys.version, sys.base_prefix, sysconfig.get_config_var("PYTHONFRAMEWORKPREFIX"))'
}

parity() {
  sync
  uv run mertd model compare mlx numpy --window "$seconds"
  if [ "$(uname)" = Darwin ]; then
    uv run mertd model compare coreml numpy --window "$seconds"
    uv run mertd model export-coreml random:0 --out /tmp/mert.mlpackage --window "$seconds"
    uv run mertd model compare /tmp/mert.mlpackage mlx --window "$seconds"
    plutil -lint launchd/*.plist
  fi
}

service() {
  sync
  bash .ci/service.sh
}

# Nobody is there to answer macOS, so nothing is asked for.
check() {
  sync
  if [ "$(uname)" = Darwin ]; then bash launchd/check.sh --yes --no-microphone machine devices models processors service log; fi
}

bench() {
  sync
  mkdir -p bench
  local quick=()
  [ "$(uname)" = Darwin ] || quick=(--quick)
  uv run mertd bench --only backends --only daemon --only startup "${quick[@]+"${quick[@]}"}" --json bench/bench.json \
    --plot bench/bench.png | tee bench/bench.txt
}

# Without what is about Linux itself, and what opens a device: nobody can answer the dialogue.
tests() {
  sync
  uv run pytest -m "not reference and not device and not linux" --durations 20
}

(($#)) || set -- parity service check bench tests
for part in "$@"; do
  printf '\n== %s\n' "$part"
  "$part"
done
