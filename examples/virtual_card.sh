#!/usr/bin/env bash
# Live capture without a sound card: a private PulseAudio with a null sink, music played into it, mertd listening to its monitor.
# Needs (Debian): libportaudio2 libasound2-plugins pulseaudio pulseaudio-utils. Usage: examples/virtual_card.sh [SOUND FILE]
set -euo pipefail
folder=$(mktemp -d)
export XDG_RUNTIME_DIR=$folder PULSE_SOURCE=card.monitor
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$folder"' EXIT

pulseaudio -n --daemonize=no --exit-idle-time=-1 --use-pid-file=no \
  -L "module-native-protocol-unix auth-anonymous=1" \
  -L "module-null-sink sink_name=card rate=48000 channels=2" 2>"$folder/pulseaudio.log" &
until pactl info >/dev/null 2>&1; do sleep 0.1; done

if [ $# -gt 0 ]; then
  paplay --device=card "$1" &
else
  uv run python -c '
import sys, numpy as np
from mertd.capture.sources.synth import chords
sys.stdout.buffer.write((chords(np.arange(48000 * 60) / 48000) * 32767).astype("<i2").tobytes())
' >"$folder/chords.raw"
  pacat --device=card --raw --format=s16le --rate=48000 --channels=1 "$folder/chords.raw" &
fi

uv run mertd run --source device:pulse --window 5 --hop 1 --weights random:0 \
  --bind "ipc://$folder/s/publish" --control "ipc://$folder/s/control" &
daemon=$!
uv run mertd tail --connect "ipc://$folder/s/publish" --count 5 --timeout 60
kill "$daemon"
wait "$daemon"
