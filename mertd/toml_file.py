"""Read a TOML file, as any editor may have written it."""

from __future__ import annotations

import codecs
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mertd.errors import MertdError
from mertd.files import FileError, read_limited

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""What files begin with that some Windows editors save as "Unicode"."""


def read_toml(path: Path, failure: type[MertdError], check: Callable[[os.stat_result], None] | None = None) -> dict[str, Any]:
    """Return the content of a TOML file. `check` sees the status of the open file first.

    Raises `FileNotFoundError`, or `failure` with the path and the reason.
    """
    try:
        content = read_limited(path, check=check)
        if content.startswith(UTF_16):
            raise failure(f"{path} is not TOML: its encoding is UTF-16; save it as UTF-8")
        return tomllib.loads(content.decode("utf-8-sig"))  # some editors begin UTF-8 with a byte order mark
    except FileNotFoundError:
        raise
    except FileError as error:
        raise failure(str(error)) from error
    except OSError as error:
        raise failure(f"{path}: {error.strerror}") from error
    except RecursionError as error:
        raise failure(f"{path} is not TOML: it is nested too deeply") from error
    except ValueError as error:  # not TOML, not UTF-8, or a number of more digits than Python converts; it quotes nothing
        raise failure(f"{path} is not TOML: {error}") from error
