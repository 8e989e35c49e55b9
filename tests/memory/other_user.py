"""Be a user who may read a directory, but not write to it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

NOBODY = 65_534

PUBLIC = "/tmp"
"""Where every user may have files, unlike in TMPDIR."""


@contextmanager
def public_folder() -> Iterator[Path]:
    """A directory that every user can reach."""
    folder = Path(tempfile.mkdtemp(dir=PUBLIC))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def reading_only(folder: Path) -> Iterator[None]:
    """Within the block, this process may not write to a directory. Root takes the identity of another user for that."""
    mode = folder.stat().st_mode & 0o7777
    folder.chmod(0o555)
    try:
        with as_user(NOBODY) if os.getuid() == 0 else nullcontext():
            assert not os.access(folder, os.W_OK)
            yield
    finally:
        folder.chmod(mode)


@contextmanager
def as_user(user: int) -> Iterator[None]:
    """Within the block, this process, which is root's, has the rights of another user."""
    os.setresuid(user, user, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
