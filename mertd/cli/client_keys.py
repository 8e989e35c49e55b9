"""The keys with which a command talks to a daemon that runs with --curve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mertd.stream.curve_keys import ClientKeys


def client_keys(endpoint: str, key: str | None, server_key: str | None, folder: Path | None) -> ClientKeys | None:
    """Return the keys that the options name; without options those of the client `local`, if this user's daemon needs them.

    Raises `KeysError` if they do not exist.
    """
    from mertd.daemon.instance import local_keys
    from mertd.stream.curve_keys import LOCAL
    from mertd.stream.keyring import Keyring

    if key or server_key or folder:
        return Keyring(folder).client(key or LOCAL, server_key)
    return local_keys(endpoint)
