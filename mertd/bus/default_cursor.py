"""Where a relay keeps its place by default."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mertd.errors import StoreError
from mertd.user_folders import data_folder


def default_cursor(endpoint: str, daemon: str, stream: str) -> Path:
    """Return the file for a daemon, by endpoint and name, and a JetStream stream, in a directory that is there then.

    Raises `HomeUnknownError`, `StoreError`.
    """
    folder = data_folder() / "relay"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot be created: {error.strerror}; name another file with --cursor") from error
    return folder / f"{hashlib.sha256(f'{endpoint} {daemon} {stream}'.encode()).hexdigest()[:12]}.cursor"
