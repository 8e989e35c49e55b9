"""On what kind of file system a memory is: the processes of two machines do not share SQLite's index of the log."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
"""What is mounted where, on Linux."""

SHARED_TYPES = frozenset(
    ["9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "nfs", "nfs4", "smb3", "smbfs", "virtiofs"]
)
"""File systems that other machines may have mounted, too."""


def shared_type(folder: Path, mounts: str | None = None) -> str | None:
    """Return the type of a directory's file system if other machines may have it mounted; None if not, or if that is unknown.

    `mounts`: the contents of MOUNTS, by default those of this machine.
    """
    if mounts is None:
        try:
            mounts = MOUNTS.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
    place = folder.resolve()
    found, depth = "", -1
    for line in mounts.splitlines():
        before, _, behind = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not behind:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4]))
        if place.is_relative_to(point) and len(point.parts) >= depth:  # what is mounted last hides what was there
            found, depth = behind.split(" ")[0], len(point.parts)
    return found if found in SHARED_TYPES else None
