"""What `mertd view` needs besides mertd's own dependencies."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from mertd.errors import MertdError

PACKAGES = ("starlette", "uvicorn", "plotly", "prometheus_client")
"""Packages of the extra `view`."""


def check_extra() -> None:
    """Raise `MertdError` if a package is missing. Loads none of them."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MertdError(f"the view needs {', '.join(missing)}; pip install 'mertd[view]' installs it")


def chart_bundle() -> Path:
    """Return the file with plotly's code for browsers. Raises `MertdError` if it is not there."""
    found = importlib.util.find_spec("plotly")
    path = Path(found.origin).parent / "package_data" / "plotly.min.js" if found and found.origin else None
    if path is None or not path.is_file():
        raise MertdError("plotly's bundle for browsers, plotly.min.js, is missing; pip install 'mertd[view]' installs it")
    return path
