"""Write tests/embed/golden.npz: what PyTorch says of two clips with the weights `random:0`.

Run from the repository: PYTHONPATH=tests uv run --group reference --with torch==2.13.0 python tests/reference/make_golden.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

from golden import CLIPS, WEIGHTS, clip  # noqa: E402
from mertd.embed.weights.loading import load  # noqa: E402
from reference.hubert import hubert, states  # noqa: E402

if __name__ == "__main__":
    model = hubert(load(WEIGHTS))
    np.savez_compressed(TESTS / "embed" / "golden.npz", **{f"s{seconds}": states(model, clip(seconds)) for seconds in CLIPS})
