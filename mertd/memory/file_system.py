"""On what kind of file system a memory is: the processes of two machines do not share SQLite's index of the log."""

from __future__ import annotations

from pathlib import Path

from mertd.mounts import mounts

MOUNTS = Path("/proc/self/mountinfo")
"""What is mounted where, on Linux."""

SHARED_TYPES = frozenset(
    ["9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "nfs", "nfs4", "smb3", "smbfs", "virtiofs"]
)
"""File systems that other machines may have mounted, too."""


def shared_type(folder: Path, text: str | None = None) -> str | None:
    """Return the type of a directory's file system if other machines may have it mounted; None if not, or if that is unknown.

    `text`: the contents of MOUNTS, by default those of this machine.
    """
    if text is None:
        try:
            text = MOUNTS.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
    place = folder.resolve()
    found, depth = "", -1
    for mount in mounts(text):
        point = Path(mount.point)
        if place.is_relative_to(point) and len(point.parts) >= depth:  # what is mounted last hides what was there
            found, depth = mount.kind, len(point.parts)
    return found if found in SHARED_TYPES else None
