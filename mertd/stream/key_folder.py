"""A folder of key files that only its owner may read: TOML files, checked before they are read, and replaced in one step.

Files are written beside their place and moved there, under a lock, so that a reader sees the old file or the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mertd.errors import KeysError
from mertd.files import replacing
from mertd.toml_file import read_toml
from mertd.user_folders import config_folder, expand_home

FOLDER_MODE = 0o700
"""Permissions of the folder."""

FILE_MODE = 0o600
"""Permissions of each file in it."""


class KeyFolder:
    """The folder. Reading changes nothing; `writing` creates it."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        """`path`: by default the user's own key folder. Raises `HomeUnknownError` if there is none."""
        self.path = expand_home(path or config_folder() / "keys").absolute()

    def file_of(self, name: str) -> Path:
        """Return the path of a key pair: the daemon's for `server`, or the client's of this name."""
        return self.path / ("server.key" if name == "server" else f"client-{name}.key")

    def client_names(self) -> list[str]:
        """Return the names of the clients whose keys are here."""
        found = sorted(path.name for path in self.path.glob("client-*.key")) if self.path.is_dir() else []
        return [name.removeprefix("client-").removesuffix(".key") for name in found]

    def read(self, path: Path) -> dict[str, Any]:
        """Return the content of a TOML file that nobody else could have read or written.

        Raises `FileNotFoundError`, or `KeysError` if it is not safe, not TOML, or cannot be read.
        """
        try:
            _check_private(self.path, self.path.stat(), FOLDER_MODE)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise KeysError(f"{self.path}: {error.strerror}") from error
        return read_toml(path, KeysError, lambda found: _check_private(path, found, FILE_MODE))

    def write(self, path: Path, text: str) -> None:
        """Replace a file. Call within `writing`."""
        with replacing(path, mode=FILE_MODE) as file:
            file.write(text.encode())

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Create the folder if it does not exist, and keep other writers out. Raises `KeysError` if it cannot be written."""
        try:
            self.path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            _check_private(self.path, self.path.stat(), FOLDER_MODE)
            descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
            with contextlib.closing(os.fdopen(descriptor, "r+")):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise KeysError(f"{self.path} cannot be written: {error.strerror}") from error


def _check_private(path: Path, found: os.stat_result, mode: int) -> None:
    if found.st_uid != os.getuid():
        raise KeysError(f"{path} belongs to another user; use a key folder of your own")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise KeysError(
            f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):o}): chmod {mode:o} it, and if it is a key that "
            "others may have read, make a new one"
        )
