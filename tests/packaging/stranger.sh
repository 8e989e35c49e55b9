#!/usr/bin/env bash
# A new machine: a fresh Debian with Python and nothing else, in which the README's first block of commands works as written.
# Needs root, debootstrap, and about 2 GB in $TMPDIR for two minutes. How this machine's pip and uv reach their packages is passed on.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$(mktemp -d)
cleanup() {
  for folder in dev proc; do
    if mountpoint -q "$root/$folder"; then umount "$root/$folder"; fi
  done
  rm -rf --one-file-system "$root"
}
trap cleanup EXIT

debootstrap --variant=minbase --include=python3,python3-pip,python3-venv,ca-certificates bookworm "$root" >"$root.log" 2>&1 ||
  { tail "$root.log"; exit 1; }
rm "$root.log"
mkdir "$root/srv/mertd"
git ls-files -z --cached --others --exclude-standard | tar --null -T - -cf - | tar -xf - -C "$root/srv/mertd"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
for file in /etc/pip.conf "$HOME/.config/pip/pip.conf" "$HOME/.config/uv/uv.toml"; do
  if [ -f "$file" ]; then
    mkdir -p "$root/root/.config/$(basename "${file%.*}")"
    cp "$file" "$root/root/.config/$(basename "${file%.*}")/"
  fi
done
mapfile -t passed < <(env | grep -E '^(PIP|UV|SSL|REQUESTS)_|^https?_proxy=' | grep -v FIND_LINKS)
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"

awk '/^```sh$/ { inside = 1; next } /^```$/ { if (inside) exit } inside' README.md >"$root/srv/mertd/block"
test -s "$root/srv/mertd/block"
cat "$root/srv/mertd/block"
env -i "${passed[@]}" HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  timeout 600 chroot "$root" bash -c 'cd /srv/mertd && bash -euo pipefail block'
