"""How much the memory on this machine takes, and how much room it has."""

from __future__ import annotations

import shutil
from pathlib import Path

from mertd.memory.retention import folder_bytes


def memory_space(folder: Path) -> dict[str, int]:
    """Return the metrics of a memory by their names; nothing if there is none or it cannot be read."""
    try:
        return {"mertd_memory_size_bytes": folder_bytes(folder), "mertd_memory_free_bytes": shutil.disk_usage(folder).free}
    except OSError:  # no such directory, or one whose file has just been deleted: at the next scrape it is known again
        return {}
