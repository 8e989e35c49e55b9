"""Tensors that are still in their file, and the check that they are MERT's: all of it on descriptions, before a value is read.

Rules of this file: a file may come from a stranger, so its description is an untrusted claim. Time is linear in its size, and
nothing is allocated or read for a tensor before its name, shape, dtype and size in the file have been accepted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.embed.architecture import MERT_95M, Architecture
from mertd.embed.weights.foreign import FETCH
from mertd.embed.weights.tensors import SIZES, Half
from mertd.errors import WeightsError, did_you_mean
from mertd.files import FileError

FLOATS = ("float16", "float32", "float64", "bfloat16")
"""Dtypes that can be converted to the float16 of `Weights`. Values of bfloat16 are read as float32, which has all of them."""

MAX_FAULTS = 6
"""Faults that one error lists; it says how many more there are."""

MAX_NAMES = 3
"""Names that one fault lists."""

REASON_LENGTH = 500
"""Characters that an error shows of why a file cannot be parsed, where the reason may hold numbers from the file."""

NAME_LENGTH = 100
"""Characters of a name from a file that an error shows. MERT's longest name has 62."""

BYTES_PER_VALUE = 10
"""Bytes of storage that may be read per value of the architecture: the 8 of float64, and a quarter for unused padding."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is still in its file.

    `read` returns its values as an array of `shape` and `dtype` (float32 for bfloat16); it may raise `WeightsError`. `storage`
    and `storage_bytes` name the part of the file that is read for it, and its size; several tensors can be views of one
    storage.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], NDArray[Any]]
    storage: str = ""
    storage_bytes: int = 0


def fit(
    architecture: Architecture, found: Mapping[str, StoredTensor], origin: str, dtypes: Collection[str] = ("float16",)
) -> dict[str, Half]:
    """Read the tensors of `architecture` from `found`, which has to hold exactly these, each of one of `dtypes`.

    A convolution stored as (out, in, kernel) is turned. Raises `WeightsError`, which lists what is missing, unexpected,
    misshapen or of another dtype before anything is read, and then what is not finite or too large for float16.
    """
    if faults := _faults(architecture, found, dtypes):
        stranger = found.keys().isdisjoint(architecture.tensors)
        raise _refusal(origin, faults, f"; it is another network: {FETCH}" if stranger else "")
    _check_sizes(architecture, found, origin)
    tensors: dict[str, Half] = {}
    # In the order of their storages, so that a storage with several tensors is read once.
    for name, stored in sorted(found.items(), key=lambda item: item[1].storage):
        values = stored.read()
        if values.shape != architecture.tensors[name]:
            values = values.swapaxes(1, 2)
        half = tensors[name] = np.ascontiguousarray(_half(values, name, origin))
        if not _is_finite(half):
            faults.append(f"{name} has values that are not finite")
    if faults:
        raise _refusal(origin, faults)
    return {name: tensors[name] for name in architecture.tensors}


def architecture_of(found: Mapping[str, StoredTensor]) -> Architecture:
    """Return the architecture that `found` probably belongs to, by the shape of one tensor."""
    name = "feature_projection.projection.weight"
    shape = found[name].shape if name in found else None
    return next((known for known in SIZES.values() if known.tensors[name] == shape), MERT_95M)


def widened(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return bfloat16 values, given as their bits, in float32: they are the upper halves of float32 numbers."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def not_there(path: Path) -> str:
    """Return what to add to an error about a file that does not exist, if its name is that of something else."""
    text = str(path)
    if re.match(r"\w+:/", text):
        return "; it is an address: download the file first (on the hub from /resolve/, not /blob/), and name that"
    if re.fullmatch(r"[\w.-]+/[\w.-]+", text) and not path.parent.exists():
        return "; if this is the name of a repository on the Hugging Face hub: `mertd model pull` fetches MERT-v1-95M"
    return ""


def show(name: str, length: int = NAME_LENGTH) -> str:
    """Return a text from a file as an error shows it: its beginning."""
    return name if len(name) <= length else f"{name[:length]}… ({len(name):,} characters)"


def unreadable(path: Path, error: OSError | FileError) -> WeightsError:
    """Return the error for a file that cannot be opened or read."""
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        lost = f"it is a link to {show(str(path.readlink()), REASON_LENGTH)}, which does not exist"
        return WeightsError(f"cannot read {path}: {error.strerror}; {lost}: the download is not complete, run it again")
    more = not_there(path) if isinstance(error, FileNotFoundError) else ""
    return WeightsError(
        f"cannot read {path}: {error.strerror or error}{more}" if isinstance(error, OSError) else f"cannot read {error}"
    )


def _faults(architecture: Architecture, found: Mapping[str, StoredTensor], dtypes: Collection[str]) -> list[str]:
    expected = architecture.tensors
    faults = []
    if missing := [name for name in expected if name not in found]:
        faults.append(f"{len(missing)} missing ({_some(missing)})")
    if unexpected := [name for name in found if name not in expected]:
        first = unexpected[0]  # a long name is no slip of the keyboard, and comparing it would take long
        hint = did_you_mean(first, missing) if len(first) <= NAME_LENGTH else ""
        faults.append(f"{len(unexpected)} unexpected ({_some(unexpected)}{hint})")
    for name, shape in expected.items():
        if name not in found:
            continue
        stored = found[name]
        turned = (stored.shape[0], *stored.shape[:0:-1]) if len(stored.shape) == 3 else stored.shape
        if shape not in (stored.shape, turned):
            faults.append(f"{name} has shape {show(str(stored.shape))}, not {shape}")
        elif stored.dtype not in dtypes:
            faults.append(_wrong_dtype(name, show(stored.dtype), dtypes))
    return faults


def _wrong_dtype(name: str, dtype: str, dtypes: Collection[str]) -> str:
    if len(dtypes) > 1:
        return f"cannot read {name}: {dtype} is not float16, float32 or float64, nor bfloat16"
    return f"{name} is {dtype}, not float16 (mertd model import converts a checkpoint)"


def _check_sizes(architecture: Architecture, found: Mapping[str, StoredTensor], origin: str) -> None:
    """Raises `WeightsError` if more would be read than tensors of this architecture can need."""
    total = sum({stored.storage: stored.storage_bytes for stored in found.values()}.values())
    limit = BYTES_PER_VALUE * sum(int(np.prod(shape)) for shape in architecture.tensors.values())
    if total > limit:
        raise WeightsError(f"{origin}: its tensors lie in {total:,} bytes; no checkpoint of this model needs over {limit:,}")


def _half(values: NDArray[Any], name: str, origin: str) -> Half:
    """Return `values` rounded to float16. Raises `WeightsError` for a finite value that float16 cannot hold."""
    if values.dtype == np.float16:
        return values
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if lost := int(np.count_nonzero(np.isinf(half) & np.isfinite(values))):
        largest = float(np.abs(values[np.isfinite(values)]).max())
        raise WeightsError(f"{origin}: {lost} values of {name} are too large for float16: up to {largest:.4g}, over 65504")
    return half


def _is_finite(tensor: Half) -> bool:
    """Return whether all values are finite: then no exponent has all of its bits set. Ten times as fast as `np.isfinite`."""
    return int((tensor.view(np.uint16) & 0x7FFF).max()) < 0x7C00


def _refusal(origin: str, faults: list[str], advice: str = "") -> WeightsError:
    more = f"; and {len(faults) - MAX_FAULTS} more" if len(faults) > MAX_FAULTS else ""
    return WeightsError(f"{origin} does not hold MERT-v1-95M: {'; '.join(faults[:MAX_FAULTS])}{more}{advice}")


def _some(names: list[str]) -> str:
    return ", ".join(map(show, names[:MAX_NAMES])) + (", …" if len(names) > MAX_NAMES else "")
