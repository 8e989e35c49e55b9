#!/usr/bin/env bash
# A pipeline: the windows that are louder than -30 dBFS, as "TIME STREAM LEVEL", with jq. Usage: louder.sh [options of mertd tail]
set -euo pipefail
uv run mertd tail --json "$@" |
  jq --unbuffered -r 'select(.audio.rms_dbfs > -30) | "\(.time.start_ns / 1e9 | todate) \(.stream) \(.audio.rms_dbfs) dBFS"'
