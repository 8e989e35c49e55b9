#!/usr/bin/env bash
# What no one has seen mertd do on a Mac, seen once: run it in a clone of the repository, in Terminal, and attach the file that it
# writes to a bug report. It asks before each part, says what it is going to do, and undoes all of it, also after Ctrl-C.
#
#   bash launchd/check.sh [--yes] [--no-microphone] [--out FILE] [PART…]
#
#   --yes            do not ask, as for a machine that nobody sits at
#   --no-microphone  leave out what needs a microphone, and somebody who answers macOS
#   --out FILE       where to write (mertd-check.txt)
#   PART             machine devices doctor models processors microphone service consent loopback tap log; all of them by default
#
# The file holds names of devices, versions, times and figures; no sound, and no name of yours: the home folder is written as ~.
set -uo pipefail # and not -e: a part that fails is a finding, and the next one is tried
cd "$(dirname "$0")/.." || exit 1

yes=''
microphone=yes
out=mertd-check.txt
parts=()
while [ $# -gt 0 ]; do
  case $1 in
    --yes) yes=yes ;;
    --no-microphone) microphone='' ;;
    --out)
      shift
      out=${1:?--out needs a file}
      ;;
    -h | --help)
      sed -n '2,13s/^# \{0,1\}//p' "$0"
      exit
      ;;
    -*)
      echo "unknown option $1; --help lists them" >&2
      exit 2
      ;;
    *) parts+=("$1") ;;
  esac
  shift
done
all="machine devices doctor models processors microphone service consent loopback tap log"
for part in ${parts[@]+"${parts[@]}"}; do
  case " $all " in
    *" $part "*) ;;
    *)
      echo "unknown part $part; choose from: $all" >&2
      exit 2
      ;;
  esac
done
[ ${#parts[@]} -gt 0 ] || read -r -a parts <<<"$all"

folder=$(mktemp -d "$HOME/mertd-check-XXXXXX")
daemon=''
app="$HOME/Library/Application Support/mertd/mertd.app"
endpoints=(--bind "ipc://$folder/run/publish" --control "ipc://$folder/run/control")
small=(--weights "random:0?size=tiny" --layers 2 --window 2 --hop 1)
failed='' runs=''
: >"$out" || exit 1

mertd() {
  if [ -n "${MERTD:-}" ]; then "$MERTD" "$@"; else uv run --quiet mertd "$@"; fi
}

# say TEXT…: to the person and to the file.
say() { printf '%s\n' "$*" | sed "s|$HOME|~|g" | tee -a "$out"; }

# may QUESTION: whether the person agrees.
may() {
  [ -z "$yes" ] || return 0
  local answer
  read -r -p "$* [Y/n] " answer </dev/tty || return 1
  case $answer in n* | N*) return 1 ;; esac
}

# look COMMAND…: run it, with its output and exit code in the file. The home folder is not named.
look() {
  say "\$ $*"
  local code
  "$@" 2>&1 </dev/null | sed "s|$HOME|~|g" | tee -a "$out"
  code=${PIPESTATUS[0]}
  [ "$code" = 0 ] || say "exit code $code"
  return "$code"
}

# limited SECONDS COMMAND…: end it then. macOS has no timeout(1).
limited() {
  local seconds=$1 pid watchdog code
  shift
  "$@" &
  pid=$!
  (
    sleep "$seconds"
    kill "$pid" 2>/dev/null
  ) >/dev/null 2>&1 &
  watchdog=$!
  wait "$pid"
  code=$?
  kill "$watchdog" 2>/dev/null
  wait "$watchdog" 2>/dev/null
  return "$code"
}

# needed COMMAND…: like look, and a failure is one of the whole check.
needed() {
  look "$@" && return
  failed="$failed
  $*"
  return 1
}

undo() {
  trap - EXIT INT TERM
  say ""
  say "== undo"
  [ -z "$daemon" ] || kill "$daemon" 2>/dev/null
  if [ -e "$HOME/Library/LaunchAgents/local.mertd.plist" ] && [ -n "${installed:-}" ]; then look mertd service uninstall; fi
  rm -rf "$folder"
  if [ -n "$failed" ]; then say "failed:$failed"; else say "nothing that had to work has failed"; fi
  say "the report is in $out; read it, then attach it to an issue of mertd"
  [ -z "$failed" ] || exit 1
  exit 0
}
trap undo EXIT INT TERM

# hear OPTIONS…: run a daemon with this source for a few vectors.
hear() {
  mertd run "${small[@]}" "${endpoints[@]}" "$@" >>"$folder/daemon.log" 2>&1 </dev/null &
  daemon=$!
  look mertd tail --connect "ipc://$folder/run/publish" --control "ipc://$folder/run/control" --events --count 3 --timeout 60
  kill "$daemon" 2>/dev/null
  wait "$daemon" 2>/dev/null
  daemon=''
  look cat "$folder/daemon.log"
  : >"$folder/daemon.log"
}

machine() {
  look sw_vers
  look uname -m
  look sysctl -n machdep.cpu.brand_string hw.memsize hw.ncpu
  look mertd --version
  needed mertd config check
}

devices() {
  look system_profiler SPAudioDataType
  look mertd devices
}

doctor() {
  if [ -n "$microphone" ]; then
    say "If macOS asks whether your terminal may use the microphone, that is for this part; answer as you like."
    look mertd doctor
  else
    look mertd doctor --quick
  fi
}

# Cosines and times of each backend, against the reference and each other.
models() {
  needed mertd model compare mlx numpy --window 5
  needed mertd model compare mlx numpy --window 30
  needed mertd model compare coreml numpy --window 5
  needed mertd model compare coreml mlx --window 30
  look mertd bench --only backends --quick
}

# powered COMMAND…: like look, and with what the processors took meanwhile, if powermetrics may run as root.
powered() {
  local power=''
  if [ -n "$powermetrics" ]; then
    : >"$folder/power.log"
    # shellcheck disable=SC2024 # the file is the person's own
    sudo -n /usr/bin/powermetrics --samplers cpu_power,gpu_power,ane_power -i 500 >"$folder/power.log" 2>&1 &
    power=$!
  fi
  look "$@"
  [ -n "$power" ] || return 0
  sudo -n kill "$power" 2>/dev/null
  wait "$power" 2>/dev/null
  say "mean power in mW, with loading and compiling:"
  awk '/ Power: [0-9]+ mW/ { name = $0; sub(/ Power:.*/, "", name); sum[name] += $(NF - 1); n[name]++ }
    END { for (name in n) printf "  %s: %.0f of %d samples\n", name, sum[name] / n[name], n[name] }' "$folder/power.log" |
    sort | tee -a "$out"
}

# Time, power and cosine of both packages on the GPU and on the Neural Engine, beside MLX.
processors() {
  powermetrics=''
  if may "powermetrics tells how much power they take, and needs sudo: use it?"; then
    if sudo -n true 2>/dev/null || { [ -z "$yes" ] && sudo -v; }; then powermetrics=yes; fi
  fi
  local shape units
  powered mertd model compare mlx mlx --runs 40
  for shape in gpu neural-engine; do
    look mertd model export-coreml random:0 --processor "$shape" --out "$folder/$shape.mlpackage"
    for units in cpu_and_gpu cpu_and_ne; do
      powered mertd model compare "$folder/$shape.mlpackage" mlx --units "$units" --runs 40
    done
    rm -rf "$folder/$shape.mlpackage"
  done
}

microphone() {
  say "Speak, or play some music."
  hear --source device:
}

install_service() {
  installed=yes runs=yes
  needed mertd service install -- "${small[@]}" "${endpoints[@]}" "$@" || runs=''
}

# heard WITH COUNT SECONDS OPTIONS…: what the service publishes. WITH: look or needed.
heard() {
  local with=$1 count=$2 seconds=$3
  shift 3
  if [ -n "$runs" ]; then
    "$with" mertd tail --connect "ipc://$folder/run/publish" --control "ipc://$folder/run/control" "$@" --count "$count" --timeout "$seconds"
  else
    say "The service does not run, so nothing of it can be heard."
  fi
}

service() {
  if [ -e "$HOME/Library/LaunchAgents/local.mertd.plist" ]; then
    say "mertd is installed as a service already; uninstall it first to have this part"
    return
  fi
  look mertd service install --dry-run -- "${small[@]}" "${endpoints[@]}" --source synth:chords
  install_service --source synth:chords
  needed mertd service status
  heard needed 3 60
  look plutil -lint "$HOME/Library/LaunchAgents/local.mertd.plist" "$app/Contents/Info.plist"
  look codesign -dvvv "$app"
  look codesign --verify --strict --verbose "$app"
  look otool -L "$app/Contents/MacOS/mertd"
  look launchctl print "gui/$(id -u)/local.mertd"
  say "A second installation interrupts nothing:"
  install_service --source synth:chords
  needed mertd service restart
  needed mertd service status
  say "Without DYLD_ variables, as LaunchServices may start it:"
  look env -i PYTHONHOME="$(plutil -extract EnvironmentVariables.PYTHONHOME raw "$HOME/Library/LaunchAgents/local.mertd.plist")" \
    PYTHONPATH="$(plutil -extract EnvironmentVariables.PYTHONPATH raw "$HOME/Library/LaunchAgents/local.mertd.plist")" \
    "$app/Contents/MacOS/mertd" -P -m mertd --version
  needed mertd service uninstall
  installed=''
}

consent() {
  if [ -e "$HOME/Library/LaunchAgents/local.mertd.plist" ]; then
    say "mertd is installed as a service already; uninstall it first to have this part"
    return
  fi
  say "macOS will ask whether mertd may use the microphone. First answer: Don't Allow."
  install_service --source device:
  look mertd service status
  heard look 2 30 --events
  look mertd doctor --quick
  say "And once more. This time answer: Allow. Then speak, or play some music."
  look tccutil reset Microphone local.mertd
  install_service --source device: --hop 1.5
  heard look 5 60 --events
  look mertd service logs --lines 100
  needed mertd service uninstall
  installed=''
}

loopback() {
  say "What this Mac plays, through BlackHole or another virtual device, if there is one."
  hear --source loopback:
}

tap() {
  say "What this Mac plays, through a tap. Terminals cannot ask for that, so zeros are expected here and sound from the service."
  hear --source tap:
  [ -e "$HOME/Library/LaunchAgents/local.mertd.plist" ] && return
  install_service --source tap:
  heard look 3 60 --events
  needed mertd service uninstall
  installed=''
}

log() {
  look limited 120 /usr/bin/log show --last 1h --style compact --predicate 'process == "tccd" AND eventMessage CONTAINS "mertd"'
}

about() {
  case $1 in
    machine) echo "the versions of macOS and mertd" ;;
    devices) echo "the list of sound devices" ;;
    doctor) echo "what mertd doctor finds; it listens to each device for two seconds" ;;
    models) echo "the model on MLX, Core ML and numpy: a few minutes of work for the GPU" ;;
    processors) echo "time, power and cosine of Core ML on the GPU and on the Neural Engine, beside MLX: some minutes" ;;
    microphone) echo "three vectors of what the microphone hears; no sound is kept" ;;
    service) echo "install mertd as a service, look at it, and remove it" ;;
    consent) echo "the same with the microphone: macOS asks twice" ;;
    loopback) echo "what this Mac plays, through a virtual device" ;;
    tap) echo "what this Mac plays, through a tap: macOS may ask" ;;
    log) echo "what macOS has logged about mertd's consents in the last hour" ;;
  esac
}

say "mertd on a Mac, $(date -u '+%Y-%m-%d %H:%M UTC')"
for part in "${parts[@]}"; do
  case $part in
    microphone | consent | loopback | tap) [ -n "$microphone" ] || continue ;;
  esac
  if may "$part: $(about "$part")?"; then
    say ""
    say "== $part ($SECONDS s)"
    "$part"
  else
    say "== $part: not wanted"
  fi
done
