"""Where the memory is unless told otherwise.

Rules of this file: it imports nothing of the memory, for the service needs it.
"""

from __future__ import annotations

from pathlib import Path

import platformdirs


def default_memory() -> Path:
    """Return where the memory is kept unless told otherwise: in the user's data directory."""
    return Path(platformdirs.user_data_dir("mertd")) / "memory"
