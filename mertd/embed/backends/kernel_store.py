"""Compiled GPU kernels, kept from one start to the next in one file for each device, driver and library.

The file is written in one step and begins with a digest of its content: a start reads all of it or compiles anew. It belongs to
this user alone (see `private_cache`), because what is in it is executed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path

import msgpack

from mertd.embed.private_cache import CacheUnusableError, keep, open_folder, read_kept

FOLDER = "kernels"
"""Folder of the files in the user's cache."""

ENTRY_FOLDER = "mlx/"
"""Beginning of the names of what MLX has compiled itself."""

ABANDONED_S = 86_400.0
"""Seconds after which a working folder belongs to a process that was killed."""


class KernelStore:
    """What was compiled for one device. Nothing here fails a start: what cannot be kept is compiled again next time."""

    def __init__(self, identity: str) -> None:
        """`identity`: everything that compiled kernels depend on, besides their source."""
        self._name = hashlib.sha256(identity.encode()).hexdigest()[:32] + ".kernels"
        self._kernels = self._read()
        self._is_changed = False
        self._working: Path | None = None

    def _read(self) -> dict[str, bytes]:
        try:
            content = read_kept(open_folder(FOLDER) / self._name) or b""
            digest, packed = content[:32], content[32:]
            if not packed or hashlib.sha256(packed).digest() != digest:
                return {}
            found = msgpack.unpackb(packed)
        except (CacheUnusableError, ValueError, msgpack.UnpackException):
            return {}
        return {str(name): bytes(kernel) for name, kernel in found.items()} if isinstance(found, dict) else {}

    def get(self, name: str) -> bytes | None:
        """Return a kernel; None if it is not there."""
        return self._kernels.get(name)

    def put(self, name: str, kernel: bytes) -> None:
        """Add a kernel."""
        self._kernels[name] = kernel
        self._is_changed = True

    def lend_to_mlx(self) -> None:
        """Let MLX find there what it has compiled before, and leave there what it compiles.

        By default it keeps that in a folder for temporary files that any user can fill, under names that do not tell one GPU or
        source from another; and it writes files in place, so that another process may read half of one. So each process gets a
        folder of its own, until `save`.
        """
        if "MLX_PTX_CACHE_DIR" in os.environ:
            return
        with contextlib.suppress(CacheUnusableError, OSError):
            parent = open_folder("kernels-in-use")
            for old in parent.iterdir():
                if time.time() - old.stat().st_mtime > ABANDONED_S:
                    shutil.rmtree(old, ignore_errors=True)
            self._working = Path(tempfile.mkdtemp(dir=parent))
            for name, kernel in self._kernels.items():
                file = name.removeprefix(ENTRY_FOLDER)
                if name.startswith(ENTRY_FOLDER) and Path(file).name == file:
                    (self._working / file).write_bytes(kernel)
            os.environ["MLX_PTX_CACHE_DIR"] = str(self._working)

    def save(self) -> None:
        """Keep what was added: call it once a backend has passed its check."""
        with contextlib.suppress(CacheUnusableError, OSError):
            if self._working is not None:
                for path in self._working.glob("*.[pt][tx][xt]"):  # .ptx and .txt; the source beside them is not read again
                    content = path.read_bytes()
                    if self.get(ENTRY_FOLDER + path.name) != content:
                        self.put(ENTRY_FOLDER + path.name, content)
            if self._is_changed:
                packed = msgpack.packb({**self._read(), **self._kernels})
                keep(open_folder(FOLDER) / self._name, hashlib.sha256(packed).digest() + packed)
                self._is_changed = False
        if self._working is not None:
            shutil.rmtree(self._working, ignore_errors=True)
            self._working = None
