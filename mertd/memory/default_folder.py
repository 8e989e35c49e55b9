"""Where the memory is unless told otherwise.

Rules of this file: it imports nothing of the memory, for the service needs it.
"""

from __future__ import annotations

import os
from pathlib import Path

from mertd.user_folders import data_folder, expand_home


def default_memory() -> Path:
    """Return where the memory is kept unless told otherwise: in the user's data directory. Raises `HomeUnknownError`."""
    return data_folder() / "memory"


def chosen_folder(folder: str | os.PathLike[str] | None) -> Path:
    """Return the directory that was chosen, with its `~` replaced, or the default one. Raises `HomeUnknownError`."""
    return default_memory() if folder is None else expand_home(folder)
