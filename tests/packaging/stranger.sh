#!/usr/bin/env bash
# A new machine: a fresh Debian with Python and nothing else, in which the README's first block of commands and its tests work as
# written, for a user who is not root. Needs root, debootstrap, and about 3 GB in $TMPDIR for some minutes. How this machine's pip
# and uv reach their packages is passed on.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$(mktemp -d)
chmod 755 "$root"
cleanup() {
  for folder in dev/shm dev/pts dev proc; do
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
    install -D -m 644 "$file" "$root/etc/xdg/$(basename "${file%.*}")/$(basename "$file")"
  fi
done
mapfile -t passed < <(env | grep -E '^(PIP|UV|SSL|REQUESTS)_|^https?_proxy=' | grep -v FIND_LINKS)
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
mount --make-private "$root/dev" # or what is mounted below it would be mounted on this machine's /dev, too
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount --bind /dev/pts "$root/dev/pts"
chroot "$root" useradd --create-home stranger
chroot "$root" chown -R stranger /srv/mertd

# The first block, which also says how to get a Python of one's own, and the one with the tests.
awk '/^```sh( long)?$/ { block = ""; inside = 1; next }
     /^```$/ { if (inside && (!blocks++ || block ~ /pytest/)) printf "%s", block; inside = 0 }
     inside { block = block $0 "\n" }' README.md >"$root/srv/mertd/block"
grep -q "mertd demo" "$root/srv/mertd/block"
grep -q "uv run pytest" "$root/srv/mertd/block"
cat "$root/srv/mertd/block"
env -i "${passed[@]}" HOME=/home/stranger LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin \
  timeout 1200 "$(command -v chroot)" --userspec=stranger:stranger "$root" bash -c 'cd /srv/mertd && bash -euo pipefail block'
