"""What the bus needs besides mertd's own dependencies."""

from __future__ import annotations

import importlib.util

from mertd.errors import BusError

PACKAGES = ("nats", "nkeys")
"""Packages of the extra `nats`."""


def check_nats_extra() -> None:
    """Raise `BusError` if a package is missing. Loads none of them."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise BusError(f"the bus needs {', '.join(missing)}; pip install 'mertd[nats]' installs it")
