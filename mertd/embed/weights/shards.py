"""A checkpoint in several files: an index in JSON says which file, a shard, holds which tensor.

Rules of this file: a shard lies beside its index; a path is never followed. Names, sizes and numbers are bounded before
anything is opened.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from mertd.embed.weights.stored import StoredTensor, show, unreadable
from mertd.errors import WeightsError
from mertd.files import FileError, read_limited

MAX_INDEX_BYTES = 1 << 20
"""Size of an index; that of a model with 209 tensors has some 20 kB."""

MAX_SHARDS = 64
"""Shards of a checkpoint. MERT-v1-95M fits into one."""

MAX_NAME_BYTES = 255
"""Bytes of a file's name that file systems allow."""

Opened = tuple[Mapping[str, StoredTensor], bool]
"""The tensors of a file, and whether they are trained."""

_NUMBERED = re.compile(r"-(\d{5})-of-(\d{5})\.(?:safetensors|bin)$")
"""End of the name that a shard has."""


def read_index(path: Path) -> dict[str, str] | None:
    """Return tensor -> name of its shard, or None if `path` holds no index of shards.

    Raises `WeightsError` for an index that is damaged, or names a file that is not beside it.
    """
    try:
        content = json.loads(read_limited(path, MAX_INDEX_BYTES))
    except (OSError, FileError) as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or "weight_map" not in content:
        return None
    places = content["weight_map"]
    if not isinstance(places, dict) or not places or not all(isinstance(shard, str) for shard in places.values()):
        raise WeightsError(f"{path}: its weight_map is not a map from tensors to files")
    shards = set(places.values())
    if len(shards) > MAX_SHARDS:
        raise WeightsError(f"{path}: {len(shards):,} shards; a checkpoint of this model needs no more than {MAX_SHARDS}")
    for shard in sorted(shards):
        odd = shard in ("", ".", "..", path.name) or len(shard.encode(errors="replace")) > MAX_NAME_BYTES
        if odd or Path(shard).name != shard or "\0" in shard:
            raise WeightsError(f"{path}: the shard {show(shard)!r} is not the name of a file beside the index")
    return places


@contextmanager
def open_shards(
    path: Path, places: Mapping[str, str], open_file: Callable[[Path], AbstractContextManager[Opened]]
) -> Iterator[Opened]:
    """Yield the tensors that the index at `path` places in its shards, each opened by `open_file`.

    Raises `WeightsError`, which names shards that are missing, and tensors that are not where the index says.
    """
    shards = sorted(set(places.values()))
    if missing := [shard for shard in shards if not (path.parent / shard).exists()]:
        names = ", ".join(map(show, missing[:3])) + (", …" if len(missing) > 3 else "")
        raise WeightsError(f"{path}: {len(missing)} of {len(shards)} shards missing beside it ({names}); download them too")
    with ExitStack() as stack:
        found: dict[str, StoredTensor] = {}
        trained = True
        for shard in shards:
            tensors, is_trained = stack.enter_context(open_file(path.parent / shard))
            trained = trained and is_trained
            expected = [name for name, place in places.items() if place == shard]
            if absent := [name for name in expected if name not in tensors]:
                raise WeightsError(f"{path.parent / shard}: {show(absent[0])!r} is not in this shard, but the index says so")
            for name in expected:
                found[name] = dataclasses.replace(tensors[name], storage=f"{shard}/{tensors[name].storage}")
        yield found, trained


def whole(path: Path) -> str:
    """Return what to import in place of one shard, to end an error; empty if the name of `path` is not that of a shard."""
    match = _NUMBERED.search(path.name)
    if match is None or not 0 < int(match[1]) <= int(match[2]):
        return ""
    return f"; this is shard {int(match[1])} of {int(match[2])}: import the directory that has all of them and their index"
