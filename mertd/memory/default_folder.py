"""Where the memory is unless told otherwise.

Rules of this file: it imports nothing of the memory, for the service needs it.
"""

from __future__ import annotations

from pathlib import Path

from mertd.user_folders import data_folder


def default_memory() -> Path:
    """Return where the memory is kept unless told otherwise: in the user's data directory. Raises `HomeUnknownError`."""
    return data_folder() / "memory"
