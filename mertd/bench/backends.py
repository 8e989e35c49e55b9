"""Every backend of this machine, and PyTorch's `HubertModel` if it is there: time per window and agreement, in one run."""

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
from mertd.embed.backends.choice import FACTORIES, candidates
from mertd.embed.backends.mlx_backend import FORMS, MlxBackend, fastest_form, mlx_has_gpu
from mertd.embed.backends.numpy_backend import NumpyBackend
from mertd.embed.backends.self_check import cosines
from mertd.embed.weights.tensors import Weights
from mertd.errors import BackendError

PRODUCTION_LAYER = 6
"""The layer that mertd publishes by default."""


@dataclass(frozen=True)
class Contender:
    """One way to run the network on a batch. `states`: which hidden states come out, and `run` gives them."""

    name: str
    precision: str
    states: tuple[int, ...]
    batch: int
    run: Callable[[Array], Array]

    @property
    def key(self) -> str:
        return f"{self.name} {self.precision}, {_form(self.states)}, batch {self.batch}"


@dataclass(frozen=True)
class Row:
    """Milliseconds per window, and the smallest cosine of any state with the float32 reference."""

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
class Result:
    """`parts`: milliseconds of one window up to layer 0, from there to the production layer, and to the last."""

    rows: list[Row]
    judge: str  # what the cosines are with
    parts: dict[str, float]
    notes: list[str]

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": [row.as_json() for row in self.rows],
            "cosine_with": self.judge,
            "parts_ms": self.parts,
            "notes": self.notes,
        }


def measure(weights: Weights, seconds: float, runs: int, batches: Sequence[int], progress: Callable[[str], object]) -> Result:
    """Time all contenders in turn. `batches`: empty for what makes sense here: 1, and 8 where there is a GPU."""
    notes: list[str] = []
    length = round(seconds * SAMPLE_RATE)
    everything = tuple(range(weights.architecture.states))
    production = (min(PRODUCTION_LAYER, weights.architecture.layers),)
    window = normalise(_music(length))
    cuda = _torch_has_cuda()
    on_gpu = batches or ((1, 8) if cuda or mlx_has_gpu() else ())
    on_cpu = batches or (1,)
    if not batches:
        notes.append("on a CPU batches are left out: each window of a batch takes as long as alone; --batch 8 measures it")

    contenders, best = [], ""
    for name in _names(notes):
        for states in (everything, production):
            try:
                backend = FACTORIES[name](weights, states)
                backend.prepare(length)
            except BackendError as error:
                notes.append(f"{name} is left out: {error}")
                break
            best = best or name
            contenders += [_ours(backend, states, batch) for batch in (on_gpu if backend.max_batch > 1 else on_cpu)]
    if mlx_has_gpu():  # which formulation is fastest, each GPU must say for itself
        for backend in _other_forms(weights, production):
            contenders += [_ours(backend, production, batch, f" {backend.form}") for batch in on_gpu]
    if pytorch.is_here():
        contenders += _pytorch(weights, everything, production, on_gpu if cuda else on_cpu, cuda)
    else:
        notes.append("PyTorch is left out: torch and transformers are not installed")

    judge, wanted = _judge(weights, everything, window, progress)
    if best:
        contenders.append(_ours(FACTORIES[best](weights, (0,)), (0,), 1))
    got: dict[str, Array] = {}
    times = take_turns({c.key: _call(c, window, got) for c in contenders}, runs, progress)
    rows = [
        Row(c, Spread.of(times[c.key], 1e3 / c.batch), float(cosines(got[c.key][0], wanted[list(c.states)]).min()))
        for c in contenders
    ]
    parts = _parts(rows, best, everything, production)
    return Result([row for row in rows if row.contender.states != (0,)], judge, parts, notes)


def _names(notes: list[str]) -> list[str]:
    """Backends worth timing here, that of `auto` first."""
    names = [name for name in dict.fromkeys([*candidates("auto"), *FACTORIES]) if name != "numpy"]
    if not mlx_has_gpu():
        names.remove("mlx")
        notes.append("mlx is left out: it has no GPU here, and on this CPU it would take minutes a window")
    if "coreml" not in candidates("auto"):
        names.remove("coreml")
    notes.append("numpy is left out: it is the reference, and not meant to be fast")
    return names


def _ours(backend: Backend, states: tuple[int, ...], batch: int, variant: str = "") -> Contender:
    return Contender(f"mertd {backend.name}{variant}", backend.precision, states, batch, backend.embed)


def _other_forms(weights: Weights, states: tuple[int, ...]) -> list[MlxBackend]:
    """MLX with the formulations of the convolutions that it does not take by itself here."""
    chosen = fastest_form("float16")
    return [MlxBackend(weights, states, convolutions=form) for form in FORMS if form != chosen]


def _pytorch(
    weights: Weights, everything: tuple[int, ...], production: tuple[int, ...], batches: Sequence[int], cuda: bool
) -> list[Contender]:
    """HubertModel as it comes always computes all states; cut off behind the production layer it need not."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False  # float32 is to mean float32
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

    made = []
    for batch in batches:
        for precision, model in models.items():
            for attention in ("eager", "sdpa"):
                made.append(Contender(f"PyTorch {attention}", precision, everything, batch, whole(model, attention)))
        for precision, model in cut.items():
            made.append(Contender("PyTorch sdpa, cut off", precision, production, batch, last(model, "sdpa")))
    return made


def _judge(
    weights: Weights, everything: tuple[int, ...], window: Array, progress: Callable[[str], object]
) -> tuple[str, Array]:
    """Hidden states in float32, (13, 768), and who computed them: PyTorch on the CPU, else numpy."""
    if pytorch.is_here():
        progress("PyTorch float32: the reference")
        return "PyTorch float32", pytorch.states(pytorch.hubert(weights), window[None])[0]
    progress("numpy float32: the reference")
    return "numpy float32", NumpyBackend(weights, everything).embed(window[None])[0]


def _call(contender: Contender, window: Array, got: dict[str, Array]) -> Callable[[], None]:
    windows = np.repeat(window[None], contender.batch, axis=0)

    def call() -> None:
        got[contender.key] = contender.run(windows)

    return call


def _parts(rows: list[Row], best: str, everything: tuple[int, ...], production: tuple[int, ...]) -> dict[str, float]:
    """By difference: what the first states cost, and what those behind them add."""
    of_best = [row for row in rows if row.contender.name == f"mertd {best}" and row.contender.batch == 1]
    ours = {row.contender.states: row.ms.median for row in of_best}
    if not {(0,), production, everything} <= set(ours):
        return {}
    start, middle, end = ours[(0,)], ours[production], ours[everything]
    return {
        "convolutions, positional": start,
        f"layers 1-{production[0]}": max(0.0, middle - start),
        f"layers {production[0] + 1}-{everything[-1]}": max(0.0, end - middle),
    }


def _torch_has_cuda() -> bool:
    if not pytorch.is_here():
        return False
    import torch

    return bool(torch.cuda.is_available())


def _music(length: int) -> Array:
    """Chords with a melody and a little noise, (length,): the same on every machine but for rounding."""
    from mertd.capture.sources.synth import chords

    noise = np.random.Generator(np.random.PCG64(0)).standard_normal(length)
    return np.asarray(chords(np.arange(length) / SAMPLE_RATE) + 0.005 * noise, np.float32)


def _form(states: tuple[int, ...]) -> str:
    return f"{len(states)} states" if len(states) > 1 else f"layer {states[0]}"
