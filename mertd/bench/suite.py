"""The sections of `mertd bench`, each measured on its own, and their results as one JSON document."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mertd import __version__
from mertd.bench import (
    capacity,
    change_detection,
    daemon,
    energy,
    fanout,
    inference,
    memory_section,
    recordings,
    startup,
    two_rooms,
)
from mertd.bench.measure import Spread, usable_processors
from mertd.bench.sections import Plan
from mertd.defaults import WINDOW_S
from mertd.embed.weights.loading import load, save

HOP_S = 5.0
"""Hop of the streams, in seconds."""


def run(plan: Plan, progress: Callable[[str], object]) -> dict[str, Any]:
    """Measure, and return `machine` and the result of each section. Raises `MertdError` if something cannot be measured."""
    tiny = "size=tiny" in plan.weights
    layer = 1 if tiny else inference.PRODUCTION_LAYER
    with _on_disk(plan.weights) as path:
        options = ["--weights", path, "--layers", str(layer), "--window", f"{plan.seconds:g}"]
        found: dict[str, Any] = {"machine": machine(plan)}
        for section in plan.sections:
            match section:
                case "backends":
                    result = inference.measure_backends(load(path), plan.seconds, plan.runs, plan.batches, progress)
                    found[section] = result.as_json()
                case "daemon":
                    found[section] = _daemon(plan, path, layer, progress)
                case "fanout":
                    counts = (1, 10) if plan.quick else (1, 10, 100)
                    found[section] = [row.as_json() for row in fanout.measure_fanout(counts, max(plan.runs, 5), progress)]
                case "startup":
                    found[section] = startup.measure_startup(path, str(layer), plan.seconds, plan.runs, progress).as_json()
                case "streams":
                    seconds = 2 * HOP_S if plan.quick else 60.0
                    first, most = (1, 2) if plan.quick else (plan.first_streams, plan.most_streams)
                    asked = ([*options, "--hop", f"{HOP_S:g}"], seconds, first, most)
                    trials = capacity.measure(*asked, progress, plan.stream_source)
                    found[section] = {
                        "carried": capacity.most_carried(trials),
                        "ended_by": capacity.ended_by(trials),
                        "source": plan.stream_source,
                        "trials": [trial.as_json() for trial in trials],
                    }
                case "energy":
                    found[section] = energy.measure_energy(plan, path, layer, progress)
                case "files":
                    files, length = (6, 6.0) if plan.quick else (plan.files, plan.length)
                    hop = 1.0 if plan.quick else HOP_S
                    wanted = (path, layer, plan.seconds, hop, files, length, 1 if plan.quick else plan.runs)
                    found[section] = recordings.measure_recordings(*wanted, progress).as_json()
                case "memory":
                    found[section] = memory_section.measure_memory(plan, progress)
                case "rooms":
                    window_s = WINDOW_S / 6 if plan.quick else plan.seconds
                    found[section] = two_rooms.measure_rooms(path, layer, plan.pieces, window_s, progress)
                case "changes":
                    window_s = WINDOW_S if plan.quick else plan.seconds  # a short one hears notes, not pieces
                    found[section] = change_detection.measure_changes(path, layer, plan.pieces, window_s, progress)
    return found


def _daemon(plan: Plan, weights: str, layer: int, progress: Callable[[str], object]) -> dict[str, Any]:
    journey = daemon.journey(weights, (layer,), plan.seconds, 3 if plan.quick else 8, progress)
    return {
        "processes": daemon.overhead(3.0 if plan.quick else 30.0, progress),
        "wire_us": _json(daemon.wire_us(plan.runs)),
        "publish_ms": daemon.publish_path(20 if plan.quick else 200, 10, progress),
        "journey_ms": _json(journey),
    }


def _json(spreads: dict[str, Spread]) -> dict[str, Any]:
    return {name: spread.as_json() for name, spread in spreads.items()}


def machine(plan: Plan) -> dict[str, Any]:
    """Return what the figures were measured on, and with which settings."""
    return {
        "mertd": __version__,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": usable_processors(),
        "gpu": _gpu(),
        "python": platform.python_version(),
        "weights": plan.weights,
        "window_s": plan.seconds,
        "runs": plan.runs,
        "quick": plan.quick,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


def _gpu() -> str:
    from mertd.embed.backends.mlx_backend import mlx_has_gpu

    if not mlx_has_gpu():
        return ""
    import mlx.core as mx

    return str(mx.device_info().get("device_name", "yes"))


@contextmanager
def _on_disk(weights: str) -> Iterator[str]:
    """Yield the path of a file with the weights, as a user has them: making random ones takes longer than reading them."""
    if not weights.startswith("random:"):
        yield weights
        return
    with tempfile.TemporaryDirectory(prefix="mertd-") as folder:
        path = Path(folder, "weights.safetensors")
        save(load(weights), path)
        yield str(path)
