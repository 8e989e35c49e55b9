"""`mertd model …`."""

from __future__ import annotations

from pathlib import Path

from mertd.embed.weights import load, save


def random(out: Path, seed: int, size: str) -> None:
    """Write seeded weights and say what they are."""
    weights = load(f"random:{seed}?size={size}")
    save(weights, out)
    count = sum(tensor.size for tensor in weights.tensors.values())
    print(f"{out}: {len(weights.tensors)} tensors, {count:,} parameters, UNTRAINED, digest {weights.digest[:16]}")
