"""Every backend of this machine, and PyTorch's `HubertModel` if it is installed: time per window and agreement, in one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mertd.bench import pytorch
from mertd.bench.measure import Spread, take_turns
from mertd.defaults import SAMPLE_RATE
from mertd.embed.audio import normalise
from mertd.embed.backends.backend import Array, Backend
from mertd.embed.backends.choice import FACTORIES, candidates, cpu_has_bfloat16
from mertd.embed.backends.mlx_backend import FORMS, MlxBackend, fastest_form, mlx_has_gpu
from mertd.embed.backends.numpy_backend import NumpyBackend
from mertd.embed.backends.self_check import cosines
from mertd.embed.weights.tensors import Weights
from mertd.errors import BackendError

PRODUCTION_LAYER = 6
"""The layer that mertd publishes by default."""

ON_DEVICE = ", on the device"
"""Ends the name of a contender whose windows are on the GPU before the clock starts, and whose states stay there."""


@dataclass(frozen=True)
class Contender:
    """One way to run the network on a batch. `states`: which hidden states `run` returns.

    `run` gets what `upload` returns for the batch, or the batch itself without it; only `run` is timed.
    """

    name: str
    precision: str
    states: tuple[int, ...]
    batch: int
    run: Callable[[Any], Any]
    upload: Callable[[Array], Any] | None = None

    @property
    def key(self) -> str:
        return f"{self.name} {self.precision}, {_label(self.states)}, batch {self.batch}"


@dataclass(frozen=True)
class ContenderTiming:
    """Milliseconds per window, and the lowest cosine of any state with the float32 reference."""

    contender: Contender
    ms: Spread
    cosine: float

    def as_json(self) -> dict[str, Any]:
        c = self.contender
        return {
            "name": c.name,
            "precision": c.precision,
            "states": list(c.states),
            "batch": c.batch,
            "ms_per_window": self.ms.as_json(),
            "cosine": self.cosine,
        }


@dataclass(frozen=True)
class BackendsResult:
    """All contenders. `parts`: milliseconds of a window up to layer 0, from there to the production layer, and to the last."""

    rows: list[ContenderTiming]
    reference: str  # what computed the states that the cosines are with
    parts: dict[str, float]
    notes: list[str]

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": [row.as_json() for row in self.rows],
            "cosine_with": self.reference,
            "parts_ms": self.parts,
            "notes": self.notes,
        }


def measure_backends(
    weights: Weights, seconds: float, runs: int, batches: Sequence[int], progress: Callable[[str], object]
) -> BackendsResult:
    """Time all contenders in turn. `batches`: windows per batch; empty for 1, and also 8 where there is a GPU."""
    notes: list[str] = []
    length = round(seconds * SAMPLE_RATE)
    every_state = tuple(range(weights.architecture.states))
    production = (min(PRODUCTION_LAYER, weights.architecture.layers),)
    window = normalise(_music(length))
    cuda = _torch_has_cuda()
    gpu_batches = batches or ((1, 8) if cuda or mlx_has_gpu() else ())
    cpu_batches = batches or (1,)
    if not batches:
        notes.append("on a CPU batches are left out: each window of a batch takes as long as alone; --batch 8 measures it")

    contenders, best = [], ""
    for name, precision in _names(notes):
        for states in (every_state, production):
            try:
                backend = FACTORIES[name](weights, states, precision)
                backend.prepare(length)
            except BackendError as error:
                notes.append(f"{name} is left out: {error}")
                break
            best = best or name
            for batch in gpu_batches if backend.max_batch > 1 else cpu_batches:
                contenders += _contenders(backend, states, batch)
    if mlx_has_gpu():  # which formulation is fastest differs between GPUs
        for backend in _other_forms(weights, production):
            for batch in gpu_batches:
                contenders += _contenders(backend, production, batch, f" {backend.form}")
    if pytorch.is_installed():
        contenders += _pytorch(weights, every_state, production, gpu_batches if cuda else cpu_batches, cuda)
    else:
        notes.append("PyTorch is left out: torch and transformers are not installed")

    reference, expected = _reference(weights, every_state, window, progress)
    if best:
        contenders += _contenders(FACTORIES[best](weights, (0,)), (0,), 1)[:1]
    results: dict[str, Any] = {}
    times = take_turns({c.key: _call(c, window, results) for c in contenders}, runs, progress)
    rows = [
        ContenderTiming(c, Spread.of(times[c.key], 1e3 / c.batch), _lowest_cosine(results[c.key], expected[list(c.states)]))
        for c in contenders
    ]
    parts = _parts(rows, best, every_state, production)
    return BackendsResult([row for row in rows if row.contender.states != (0,)], reference, parts, notes)


def _names(notes: list[str]) -> list[tuple[str, str]]:
    """Return the backends worth timing here with their precisions, first what `auto` takes."""
    names = [name for name in dict.fromkeys([*candidates("auto"), *FACTORIES]) if name != "numpy"]
    if not mlx_has_gpu():
        names.remove("mlx")
        notes.append("mlx is left out: it has no GPU here, and on this CPU it would take minutes a window")
    if "coreml" not in candidates("auto"):
        names.remove("coreml")
    notes.append("numpy is left out: it is the reference, and not meant to be fast")
    fast = [(name, "auto") for name in names]
    return [*fast, ("openvino", "float32")] if "openvino" in names and cpu_has_bfloat16() else fast


def _contenders(backend: Backend, states: tuple[int, ...], batch: int, variant: str = "") -> list[Contender]:
    """Return the backend as the daemon uses it, with copies in and out; for MLX on a GPU also the work on the device alone."""
    name = f"mertd {backend.name}{variant}"
    contenders = [Contender(name, backend.precision, states, batch, backend.embed)]
    if isinstance(backend, MlxBackend) and backend.device == "gpu":
        contenders.append(Contender(name + ON_DEVICE, backend.precision, states, batch, backend.compute, backend.upload))
    return contenders


def _other_forms(weights: Weights, states: tuple[int, ...]) -> list[MlxBackend]:
    """Return MLX with the formulations of the convolutions that it does not use by default here."""
    chosen = fastest_form("float16")
    return [MlxBackend(weights, states, convolutions=form) for form in FORMS if form != chosen]


def _pytorch(
    weights: Weights, every_state: tuple[int, ...], production: tuple[int, ...], batches: Sequence[int], cuda: bool
) -> list[Contender]:
    """Return HubertModel as it comes, which always computes all states, and cut off behind the production layer."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False  # real float32
    torch.backends.cudnn.allow_tf32 = False
    models = {"float32": pytorch.hubert(weights)}
    cut = {"float32": pytorch.hubert(weights, production[0])}
    if cuda:
        models = {"float32": models["float32"].cuda(), "float16": pytorch.hubert(weights).half().cuda()}
        cut = {"float16": cut["float32"].half().cuda()}

    def whole(model: Any, attention: str) -> Callable[[Array], Array]:
        return lambda windows: pytorch.states(model, windows, attention)

    def last(model: Any, attention: str) -> Callable[[Array], Array]:
        return lambda windows: pytorch.states(model, windows, attention)[:, -1:]

    def on_device(model: Any, attention: str) -> tuple[Callable[[Any], Any], Callable[[Array], Any]]:
        return lambda samples: pytorch.states_on_device(model, samples, attention), lambda w: pytorch.upload(model, w)

    made = []
    for batch in batches:
        for precision, model in models.items():
            for attention in ("eager", "sdpa"):
                name = f"PyTorch {attention}"
                made.append(Contender(name, precision, every_state, batch, whole(model, attention)))
                if cuda:
                    made.append(Contender(name + ON_DEVICE, precision, every_state, batch, *on_device(model, attention)))
        for precision, model in cut.items():
            made.append(Contender("PyTorch sdpa, cut off", precision, production, batch, last(model, "sdpa")))
    return made


def _reference(
    weights: Weights, every_state: tuple[int, ...], window: Array, progress: Callable[[str], object]
) -> tuple[str, Array]:
    """Return what computed the reference, PyTorch on the CPU or else numpy, and its hidden states in float32, (13, 768)."""
    if pytorch.is_installed():
        progress("PyTorch float32: the reference")
        return "PyTorch float32", pytorch.states(pytorch.hubert(weights), window[None])[0]
    progress("numpy float32: the reference")
    return "numpy float32", NumpyBackend(weights, every_state).embed(window[None])[0]


def _call(contender: Contender, window: Array, results: dict[str, Any]) -> Callable[[], None]:
    windows = np.repeat(window[None], contender.batch, axis=0)
    batch = contender.upload(windows) if contender.upload else windows

    def call() -> None:
        results[contender.key] = contender.run(batch)

    return call


def _lowest_cosine(states: Any, expected: Array) -> float:
    """`states`: of a batch of equal windows, in an array of numpy or of the device."""
    on_host = states.cpu() if hasattr(states, "cpu") else states
    return float(cosines(np.array(on_host, np.float32)[0], expected).min())


def _parts(
    rows: list[ContenderTiming], best: str, every_state: tuple[int, ...], production: tuple[int, ...]
) -> dict[str, float]:
    """Return what the first state costs and what the layers behind it add, by difference."""
    of_best = [row for row in rows if row.contender.name == f"mertd {best}" and row.contender.batch == 1]
    precision = of_best[0].contender.precision if of_best else ""
    ms = {row.contender.states: row.ms.median for row in of_best if row.contender.precision == precision}
    if not {(0,), production, every_state} <= set(ms):
        return {}
    return {
        "convolutions, positional": ms[(0,)],
        f"layers 1-{production[0]}": max(0.0, ms[production] - ms[(0,)]),
        f"layers {production[0] + 1}-{every_state[-1]}": max(0.0, ms[every_state] - ms[production]),
    }


def _torch_has_cuda() -> bool:
    if not pytorch.is_installed():
        return False
    import torch

    return bool(torch.cuda.is_available())


def _music(length: int) -> Array:
    """Return chords with a melody and a little noise, (length,): the same on every machine except for rounding."""
    from mertd.capture.sources.synth import chords

    noise = np.random.Generator(np.random.PCG64(0)).standard_normal(length)
    return np.asarray(chords(np.arange(length) / SAMPLE_RATE) + 0.005 * noise, np.float32)


def _label(states: tuple[int, ...]) -> str:
    return f"{len(states)} states" if len(states) > 1 else f"layer {states[0]}"
