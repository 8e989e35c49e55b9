"""The user's own folders, in which configuration, keys and weights are kept by default."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import platformdirs

from mertd.errors import MertdError


class HomeUnknownError(MertdError):
    """Neither HOME nor the system's list of users says where the home directory is."""


def config_folder() -> Path:
    """Return the folder of configuration and keys. Raises `HomeUnknownError`."""
    return _known(lambda: platformdirs.user_config_dir("mertd"), "configuration and keys")


def data_folder() -> Path:
    """Return the folder of weights. Raises `HomeUnknownError`."""
    return _known(lambda: platformdirs.user_data_dir("mertd"), "weights")


def cache_folder() -> Path:
    """Return the folder of what can be made again. Raises `HomeUnknownError`."""
    return _known(lambda: platformdirs.user_cache_dir("mertd"), "what can be made again")


def log_folder() -> Path:
    """Return the folder of the service's log. Raises `HomeUnknownError`."""
    return _known(lambda: platformdirs.user_log_dir("mertd"), "logs")


def home() -> Path:
    """Return the home directory. Raises `HomeUnknownError`."""
    return _known(lambda: "~", "what belongs to the user")


def expand_home(path: str | os.PathLike[str]) -> Path:
    """Return a path with its `~` or `~name` replaced; as in a shell, one of an unknown user stays as it is."""
    return Path(with_home(os.fspath(path)))


def with_home(path: str) -> str:
    """Do the same with a text, of which nothing else is changed: `Path` shortens `./-`."""
    if not path.startswith("~"):
        return path
    try:
        return str(Path(path).expanduser())
    except RuntimeError:
        return path


def _known(find: Callable[[], str], what: str) -> Path:
    try:
        return Path(find()).expanduser()  # platformdirs before 4.14 leaves a `~` that it does not know
    except RuntimeError as error:
        raise HomeUnknownError(f"no directory for {what}: HOME is not set, and this user has no home directory") from error
