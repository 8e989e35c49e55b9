#!/usr/bin/env bash
# Checks that need a Mac. `bash .ci/macos.sh [parity] [service] [bench] [tests]`; without words, all of it.
# On Linux it runs as far as it goes there: MLX on the CPU, no Core ML, the service if there is a manager for it.
set -euo pipefail
cd "$(dirname "$0")/.."
export CI=true PYTHONUNBUFFERED=1
seconds=5
[ "$(uname)" = Darwin ] || seconds=1 # MLX on a CPU is slow
command -v uv >/dev/null || pipx install uv || python3 -m pip install --quiet uv
uv sync --quiet

parity() {
  uv run mertd model compare mlx numpy --window "$seconds"
  if [ "$(uname)" = Darwin ]; then
    uv run mertd model compare coreml numpy --window "$seconds"
    uv run mertd model export-coreml random:0 --out /tmp/mert.mlpackage --window "$seconds"
    uv run mertd model compare /tmp/mert.mlpackage mlx --window "$seconds"
    plutil -lint launchd/*.plist
  fi
}

service() { bash .ci/service.sh; }

bench() {
  mkdir -p bench
  local quick=()
  [ "$(uname)" = Darwin ] || quick=(--quick)
  uv run mertd bench --only backends --only daemon --only startup "${quick[@]+"${quick[@]}"}" --json bench/bench.json \
    --plot bench/bench.png | tee bench/bench.txt
}

tests() { uv run pytest -m "not reference and not device" --durations 20; }

(($#)) || set -- parity service bench tests
for part in "$@"; do
  printf '\n== %s\n' "$part"
  "$part"
done
