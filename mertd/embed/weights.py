"""MERT's tensors: read from a safetensors file or made from a seed, checked by name, shape and value, identified by digest.

Whatever the origin, they come out as float16 under the names and shapes of `Architecture.tensors`, and every backend starts
from these: two backends given the same weights differ in arithmetic only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from mertd.embed.architecture import MERT_95M, TINY, Architecture
from mertd.errors import UsageError, WeightsError, did_you_mean
from mertd.files import replacing

Half = NDArray[np.float16]
RANDOM = "random:"
SIZES = {"full": MERT_95M, "tiny": TINY}


@dataclass(frozen=True)
class Weights:
    """Tensors ready for a backend. `digest`: sha256, hexadecimal, over names, shapes and values."""

    architecture: Architecture
    tensors: Mapping[str, Half]
    digest: str
    trained: bool
    origin: str


def load(spec: str) -> Weights:
    """Weights from `PATH` (safetensors) or `random:SEED[?size=tiny&outliers=1]`.

    Raises `UsageError` for a malformed `random:` and `WeightsError` for a file that is absent, unreadable or not MERT's.
    """
    if spec.startswith(RANDOM):
        return _random(spec)
    return from_file(Path(spec).expanduser())


def _random(spec: str) -> Weights:
    seed, _, query = spec.removeprefix(RANDOM).partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    size, outliers = options.pop("size", "full"), options.pop("outliers", "0")
    if not (seed.isascii() and seed.isdigit()):
        raise UsageError(f"{spec!r}: the seed must be a whole number, as in random:0")
    if size not in SIZES:
        raise UsageError(f"{spec!r}: size is one of {', '.join(SIZES)}")
    if outliers not in ("0", "1"):
        raise UsageError(f"{spec!r}: outliers is 0 or 1")
    if options:
        raise UsageError(f"{spec!r}: unknown option {next(iter(options))!r}; known are size and outliers")
    architecture = SIZES[size]
    tensors = dict(random_tensors(architecture, int(seed)))
    if outliers == "1":
        tensors = with_outliers(architecture, tensors, int(seed))
    return Weights(architecture, tensors, digest(tensors), trained=False, origin=spec)


def random_tensors(architecture: Architecture, seed: int) -> Iterator[tuple[str, Half]]:
    """Seeded weights of the true shapes, the same bits on every machine.

    They come from the raw output of PCG64, which numpy guarantees never to change, as uniform values; scales keep the signal's
    variance through every layer, so that each one matters to the result. float16, so that a saved file gives the same vectors.
    """
    generator = np.random.PCG64(seed)
    for name, shape in architecture.tensors.items():
        count = int(np.prod(shape))
        words = generator.random_raw((count + 3) // 4).view(np.uint16)[:count]
        unit = (words.astype(np.float32) - np.float32(32767.5)) * np.float32(3**0.5 / 32768)  # mean 0, variance 1
        if len(shape) == 1:
            is_gain = "norm" in name and name.endswith(".weight")
            values = np.float32(0.1) * unit + np.float32(is_gain)
        else:
            fan_in = int(np.prod(shape[1:]))
            gain = 2.0 if ".conv." in name else 1.0  # GELU halves the variance after a convolution (He et al. 2015)
            values = unit * np.float32((gain / fan_in) ** 0.5)
        yield name, values.reshape(shape).astype(np.float16)


def with_outliers(architecture: Architecture, tensors: Mapping[str, Half], seed: int) -> dict[str, Half]:
    """The same weights with a few hidden channels 20 to 100 times larger, as trained transformers have.

    In a post-norm network these live in the gains of the layer norms, and the residual stream carries them through every
    layer (Kovaleva et al. 2021, arXiv 2105.06990). Here six channels get large gains and biases at each final layer norm; the
    next attention layer norm takes them back, and the weights that read them shrink, as training would have seen to.
    """
    generator = np.random.Generator(np.random.PCG64(seed + 1))
    size = architecture.hidden
    channels = generator.choice(size, 6, replace=False)
    factors = np.exp(generator.uniform(np.log(20), np.log(100), 6)).astype(np.float32)
    grown = np.ones(size, np.float32)
    grown[channels] = factors
    out = dict(tensors)
    for name, tensor in tensors.items():
        values = tensor.astype(np.float32)
        if name.startswith("encoder.") and (".final_layer_norm." in name or name.startswith("encoder.layer_norm.")):
            values = values * grown
        elif name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
            values = values / grown
        elif name.startswith("encoder.layers") and name.endswith("attention.out_proj.weight"):
            values = values * np.sqrt(grown)[:, None]
        elif name.startswith("encoder.layers") and ".layer_norm.weight" in name:
            values = values * np.where(grown > 1, np.float32(0.5), np.float32(4))
        else:
            continue
        out[name] = values.astype(np.float16)
    return out


def digest(tensors: Mapping[str, Half]) -> str:
    """sha256 over every tensor's name, shape and little-endian float16 values, in the order of their names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name} {tensor.shape}\n".encode())
        total.update(np.ascontiguousarray(tensor, "<f2").data)
    return total.hexdigest()


def from_file(path: Path) -> Weights:
    """Read a safetensors file of MERT's tensors in float16.

    An optional prefix common to all names is dropped, and a convolution stored as (out, in, kernel) is turned. Raises
    `WeightsError`, which names what is missing, unexpected, misshapen, of another dtype or not finite.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise WeightsError(f"no weights file at {path}; to try mertd without trained weights: --weights random:0")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}") from error
    architecture = TINY if _matches(found, TINY) else MERT_95M
    tensors = fit(architecture, found, str(path))
    return Weights(architecture, tensors, digest(tensors), metadata.get("trained", "true") == "true", str(path))


def save(weights: Weights, path: Path) -> None:
    """Write `weights` as safetensors, in one step. Raises `WeightsError` if they cannot be written."""
    from safetensors.numpy import save as serialised

    # One entry alone: safetensors writes several in an order of its own, and equal weights are to be equal bytes.
    metadata = {"trained": str(weights.trained).lower()}
    try:
        with replacing(path, mode=0o644) as file:  # weights are no secret
            file.write(serialised({name: np.ascontiguousarray(t) for name, t in weights.tensors.items()}, metadata))
    except OSError as error:
        raise WeightsError(f"cannot write {path}: {error.strerror or error}") from error


def fit(architecture: Architecture, found: Mapping[str, NDArray[np.generic]], origin: str) -> dict[str, Half]:
    """`found` under the names and shapes of `architecture`, or a `WeightsError` that lists everything wrong with it."""
    found = {name.removeprefix(_prefix(found)): tensor for name, tensor in found.items()}
    wanted = architecture.tensors
    faults = []
    if missing := [name for name in wanted if name not in found]:
        faults.append(f"{len(missing)} missing ({_some(missing)})")
    if unexpected := [name for name in found if name not in wanted]:
        faults.append(f"{len(unexpected)} unexpected ({_some(unexpected)}{did_you_mean(unexpected[0], missing)})")
    tensors: dict[str, Half] = {}
    for name, shape in wanted.items():
        if name not in found:
            continue
        tensor = found[name]
        if tensor.shape != shape and tensor.ndim == 3 and tensor.swapaxes(1, 2).shape == shape:
            tensor = np.ascontiguousarray(tensor.swapaxes(1, 2))
        if tensor.shape != shape:
            faults.append(f"{name} has shape {tensor.shape}, not {shape}")
        elif tensor.dtype != np.float16:
            faults.append(f"{name} is {tensor.dtype}, not float16 (mertd model import converts a checkpoint)")
        elif not _finite(tensor):
            faults.append(f"{name} has values that are not finite")
        else:
            tensors[name] = tensor.astype(np.float16, copy=False)
    if faults:
        more = f"; and {len(faults) - 6} more" if len(faults) > 6 else ""
        raise WeightsError(f"{origin} does not hold MERT-v1-95M: {'; '.join(faults[:6])}{more}")
    return tensors


def _finite(tensor: NDArray[np.generic]) -> bool:
    """What `np.isfinite(tensor).all()` says, ten times as fast: float16 is finite unless all bits of its exponent are set."""
    return int((np.ascontiguousarray(tensor).view(np.uint16) & 0x7FFF).max()) < 0x7C00


def _matches(found: Mapping[str, NDArray[np.generic]], architecture: Architecture) -> bool:
    prefix, wanted = _prefix(found), architecture.tensors
    name = "feature_projection.projection.weight"
    return len(found) == len(wanted) and found.get(prefix + name, np.empty(0)).shape == wanted[name]


def _prefix(names: Mapping[str, object]) -> str:
    """What stands before `encoder.layer_norm.weight` in every name; empty if not in all of them."""
    anchor = "encoder.layer_norm.weight"
    prefix = next((name.removesuffix(anchor) for name in names if name.endswith(anchor)), "")
    return prefix if all(name.startswith(prefix) for name in names) else ""


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
