"""The picture: drawn from whatever was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mertd.bench.plot import draw
from mertd.errors import UsageError

MACHINE = {"mertd": "0", "processor": "P", "cores": 2, "gpu": "", "weights": "random:0", "window_s": 30.0}


def spread(median: float) -> dict[str, float]:
    return {"median": median, "low": median * 0.9, "high": median * 1.2, "count": 3}


def row(name: str, states: list[int], ms: float, batch: int = 1) -> dict[str, Any]:
    facts = {"name": name, "precision": "float32", "states": states, "batch": batch}
    return {**facts, "ms_per_window": spread(ms), "cosine": 1.0}


SECTIONS: dict[str, Any] = {
    "backends": {
        "rows": [row("mertd onnx", [6], 3000), row("PyTorch eager", [0, 1], 9000), row("mertd onnx", [6], 2900, 8)],
        "parts_ms": {"convolutions": 1500.0, "layers 1-6": 1500.0},
    },
    "daemon": {"journey_ms": {"capture": spread(3), "embed": spread(3000), "publish": spread(0.5)}},
    "fanout": [
        {"subscribers": n, "mertd_per_s": spread(9e4), "pyzmq_per_s": spread(1e5), "ratio": spread(0.9)} for n in (1, 10)
    ],
    "startup": {"daemon_s": {"ready": spread(2.5)}, "embed_alone_s": {"imports": spread(0.4), "weights": spread(0.3)}},
    "streams": {
        "carried": 1,
        "trials": [{"streams": n, "due": 12 * n, "embedded": 12, "skipped": 12 * (n - 1)} for n in (1, 2)],
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("names", [["fanout"], list(SECTIONS)], ids=lambda names: "-".join(names))
def test_a_picture_of_whatever_was_measured(tmp_path: Path, names: list[str]) -> None:
    draw({"machine": MACHINE, **{name: SECTIONS[name] for name in names}}, tmp_path / "x.png")
    data = (tmp_path / "x.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    height = int.from_bytes(data[20:24], "big")
    assert height > 100 * len(names), "every section has its panel"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["no folder/x.png", "x.nonsense"])
def test_where_no_picture_can_be_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="--plot: cannot write"):
        draw({"machine": MACHINE, "fanout": SECTIONS["fanout"]}, tmp_path / name)
