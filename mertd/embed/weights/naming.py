"""Names of a checkpoint's tensors made those of `Architecture.tensors`: prefix, weight norm, and what is not of the encoder.

Rules of this file: names and shapes only; no value is read before the whole network is accepted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.embed.architecture import MERT_95M, POSITIONAL
from mertd.embed.weights.stored import FLOATS, StoredTensor, show
from mertd.embed.weights.tensors import SIZES
from mertd.errors import WeightsError

_FOLDED = f"{POSITIONAL}.weight"
"""Name of the positional convolution's weights without a weight norm."""

_PAIRS = (
    (f"{POSITIONAL}.weight_g", f"{POSITIONAL}.weight_v"),
    (f"{POSITIONAL}.parametrizations.weight.original0", f"{POSITIONAL}.parametrizations.weight.original1"),
)
"""Names of the weight norm's gain (1, 1, kernel) and direction (out, in, kernel): before PyTorch 2.0, and since."""

_UNUSED = "masked_spec_embed"
"""A tensor that replaces masked frames in training; nothing is masked afterwards."""

HEADS = frozenset(
    {
        "lm_head",
        "final_proj",
        "label_embs_concat",
        "mask_emb",
        "quantizer",
        "project_q",
        "project_hid",
        "projector",
        "classifier",
        "layer_weights",
        "objective",
        "tdnn",
    }
)
"""Parts of names of what training and fine-tuning put on top of the encoder, and mertd does not run."""

_RELATIVES = {"wav2vec2": "wav2vec 2.0", "wavlm": "WavLM", "data2vec_audio": "data2vec", "unispeech": "UniSpeech"}
"""Prefixes of networks whose tensors have the same names, and often the same shapes, but that are not MERT."""

_FAIRSEQ = "post_extract_proj.weight"
"""A tensor that only fairseq calls so."""

FROM_FAIRSEQ = (
    "a checkpoint of fairseq, whose names differ; import pytorch_model.bin of the same model, or convert it with "
    "convert_hubert_original_pytorch_checkpoint_to_pytorch.py of transformers"
)
"""What such a file is, to complete "it is …"."""


@dataclass(frozen=True)
class Named:
    """Tensors under the names of `Architecture.tensors`. `left_out`: names of heads that mertd does not run."""

    tensors: dict[str, StoredTensor]
    left_out: tuple[str, ...]


def unified(stored: Mapping[str, StoredTensor], source: Path) -> Named:
    """Return `stored` without prefix, unused tensor and heads, and with one tensor in place of a weight norm's two.

    Raises `WeightsError` for another network than MERT-v1-95M that can be told by its names and shapes.
    """
    found = dict(stored)
    for gain, direction in _PAIRS:
        prefix = next((name.removesuffix(gain) for name in stored if name.endswith(gain)), None)
        if prefix is not None and prefix + direction in stored and prefix + _FOLDED not in stored:
            found[prefix + _FOLDED] = _folded(found.pop(prefix + gain), found.pop(prefix + direction), source)
    prefix = next((name.removesuffix(_FOLDED) for name in found if name.endswith(_FOLDED)), "")
    found.pop(prefix + _UNUSED, None)
    plain = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    if len(plain) < len(found):
        raise WeightsError(f"{source}: some tensors are there twice, with and without the prefix {show(prefix)!r}")
    heads = tuple(sorted(name for name, tensor in plain.items() if _is_head(name, tensor)))
    kept = {name: tensor for name, tensor in plain.items() if name not in heads}
    _refuse_other_networks(prefix, kept, source)
    return Named(kept, heads)


def _is_head(name: str, tensor: StoredTensor) -> bool:
    """Heads consist of numbers with a fraction; anything else under such a name is unexpected."""
    return tensor.dtype in FLOATS and not HEADS.isdisjoint(name.split("."))


def _refuse_other_networks(prefix: str, found: Mapping[str, StoredTensor], source: Path) -> None:
    if any(".lora_A." in name for name in found):
        raise WeightsError(f"{source} is a LoRA adapter, which changes a model; merge it into the model and import that")
    if any(name.endswith(_FAIRSEQ) for name in found):
        raise WeightsError(f"{source} is {FROM_FAIRSEQ}")
    if relative := next((_RELATIVES[part] for part in prefix.split(".") if part in _RELATIVES), None):
        raise WeightsError(f"{source} holds {relative}, not MERT; `mertd model pull` fetches MERT-v1-95M")
    projection = found.get("feature_projection.projection.weight")
    if projection is None or len(projection.shape) != 2:
        return
    hidden = projection.shape[0]
    numbers = {int(match[1]) for name in found if (match := re.match(r"encoder\.layers\.(\d{1,3})\.", name))}
    layers = len(numbers)
    if not numbers or any(hidden == known.hidden and layers <= known.layers for known in SIZES.values()):
        return  # whole, or with a part missing, which is said by name
    about = f"a network of {layers} layers of {hidden}"
    if (hidden, layers) == (1024, 24):
        about += ", the size of MERT-v1-330M"
    ours = f"MERT-v1-95M, {MERT_95M.layers} layers of {MERT_95M.hidden}"
    raise WeightsError(f"{source} holds {about}; mertd runs only {ours}: import that one, or `mertd model pull` fetches it")


def _folded(gain: StoredTensor, direction: StoredTensor, source: Path) -> StoredTensor:
    """Return the product of a weight norm's two tensors, computed when it is read."""
    if len(direction.shape) != 3 or gain.shape != (1, 1, direction.shape[-1]):
        shapes = f"gain {show(str(gain.shape))} and direction {show(str(direction.shape))}"
        raise WeightsError(f"{source}: a weight norm of {shapes} is not per kernel tap")
    odd = next((one.dtype for one in (gain, direction) if one.dtype not in FLOATS), None)
    size = gain.storage_bytes + direction.storage_bytes
    storage = f"{gain.storage}, {direction.storage}"
    return StoredTensor(direction.shape, odd or "float32", partial(_fold, gain, direction), storage, size)


def _fold(gain: StoredTensor, direction: StoredTensor) -> NDArray[Any]:
    """Return w = v * g / ||v||, with the norm over out and in, one per kernel tap (Salimans and Kingma 2016, arXiv 1602.07868).

    The squares of float32 values are exact in float64 and their sum has 29 bits to spare, so the order in which a machine adds
    them does not change the result, which is float32.
    """
    g, v = gain.read(), direction.read()
    norm = np.sqrt(np.square(v.astype(np.float64)).sum((0, 1)))
    with np.errstate(all="ignore"):  # a norm of zero, or values that are not finite, give values that are refused by name
        scale = (g.astype(np.float64) / norm).astype(np.float32)
        return np.asarray(v.astype(np.float32) * scale)
