"""Examine what may hang or crash, in a process of its own: `python -m mertd.doctor.probe {device NAME | devices | model JSON}`.

The answer is one JSON object on standard output.
"""

from __future__ import annotations

import json
import math
import sys
import time
from typing import Any

LISTEN_S = 2.0
"""Seconds of signal to examine."""

SILENCE_DBFS = -200.0
"""Level reported for an amplitude of zero."""


def measure_device(name: str) -> dict[str, Any]:
    """Return the levels of a device over LISTEN_S, and the cause if all samples are zero."""
    import numpy as np

    from mertd.capture.address import parse
    from mertd.capture.sources.device import open_device
    from mertd.errors import SourceError

    try:
        source = open_device(parse(f"device:{name}"))
        frames = 0
        square = 0.0
        peak = 0.0
        zeros = 0
        for block in source.blocks():
            if block is not None:
                frames += block.frames.size
                square += float(np.square(block.frames, dtype=np.float64).sum())
                peak = max(peak, float(np.abs(block.frames).max(initial=0.0)))
                zeros += int((block.frames == 0).sum())
            if frames >= LISTEN_S * source.rate * source.channels:
                break
        why = source.explain_zeros() if zeros == frames else None
        found = {
            "rate": source.rate,
            "channels": source.channels,
            "rms_dbfs": _decibels(math.sqrt(square / frames)),
            "peak_dbfs": _decibels(peak),
            "zeros": zeros / frames,
            "cause": why.cause if why else "",
            "hint": why.hint if why else "",
        }
        source.close()
    except SourceError as error:
        return {"problem": str(error)}
    return found


def list_devices() -> dict[str, Any]:
    """Return what follows `device:` in the addresses of the input devices, the default first; or why there are none."""
    from mertd.capture.device_list import all_inputs, devices, target_of
    from mertd.errors import SourceError

    try:
        found = devices() or all_inputs()  # without any of PortAudio's, those of the sound server
        return {"devices": [target_of(device, found) for device in found]}
    except SourceError as error:
        return {"problem": str(error)}


def try_model(plan: dict[str, Any]) -> dict[str, Any]:
    """Load and check the model as the daemon does, and time one window. `plan`: weights, layers, backend, window (samples),
    threads.
    """
    import numpy as np

    from mertd.embed.embedder import Embedder
    from mertd.embed.model_settings import ModelSettings
    from mertd.errors import MertdError, WeightsError

    try:
        embedder = Embedder(
            ModelSettings(
                plan["weights"],
                tuple(plan["layers"]),
                plan["backend"],
                plan["window"],
                plan["precision"],
                plan.get("threads"),
                check=True,  # a doctor looks for himself
            )
        )
        window = 0.1 * np.random.Generator(np.random.PCG64(0)).standard_normal(plan["window"]).astype(np.float32)
        embedder.embed([window])
        began = time.perf_counter()
        embedder.embed([window])
        took = time.perf_counter() - began
    except WeightsError as error:
        return {"problem": str(error)}
    except MertdError as error:
        return {"weights": plan["weights"], "problem": str(error)}
    backend = embedder.backend
    return {
        "weights": plan["weights"],
        "trained": embedder.weights.trained,
        "backend": backend.name,
        "device": backend.device,
        "precision": backend.precision,
        "seconds": took,
        "rejected": embedder.chosen.rejected,
    }


def _decibels(amplitude: float) -> float:
    return 20 * math.log10(amplitude) if amplitude > 0 else SILENCE_DBFS


def main() -> None:
    """Run the probe that the arguments name."""
    match sys.argv[1:]:
        case ["device", name]:
            answer = measure_device(name)
        case ["devices"]:
            answer = list_devices()
        case ["model", plan]:
            answer = try_model(json.loads(plan))
        case words:
            raise SystemExit(f"unknown probe: {words}")
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
