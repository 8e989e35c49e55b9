"""Is a model any good? Made pieces, changed in known ways, must be found again among others.

The judgement is measured: the network must find pieces that are played on other instruments, also at another tempo and in
another key at once, clearly better than the same network with untrained weights does, in the same run. What the file of weights
says of itself does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mertd.defaults import SAMPLE_RATE
from mertd.embed.audio import measure_levels
from mertd.embed.embedder import Embedder
from mertd.embed.model_settings import ModelSettings
from mertd.embed.weights.loading import RANDOM
from mertd.embed.weights.tensors import SIZES
from mertd.errors import BackendError, UsageError
from mertd.evaluate.made_pieces import make_piece
from mertd.evaluate.retrieval import (
    average_precisions,
    chance,
    loudness_share,
    mean_cosine,
    nearest_is_right,
)
from mertd.evaluate.sound_changes import equalised, quieter, through_mp3, with_noise
from mertd.evaluate.spectral_features import spectral_features
from mertd.evaluate.synthesiser import find_soundfont, render
from mertd.memory.similarity.centre import centred_units

MUSICAL = ("tempo", "key", "instruments", "all three")
"""Changes that leave the piece and change its sound: what a trained network hears through."""

JUDGED = ("instruments", "all three")
"""Musical changes that decide: any description of sound hears through the others."""

TECHNICAL = ("noise", "eq", "level", "mp3")
"""Changes that leave the performance: what any description of sound should survive."""

BASE = "as it is"
"""The unchanged rendering."""

WINDOWS = 2
"""Windows of each rendering."""

UNTRAINED_SEED = 4_711
"""Seed of the untrained weights that are compared with."""

MIN_GAIN = 0.05
"""Least gain in mean average precision over untrained weights, across JUDGED, of weights that are good."""

MIN_ERRORS = 2.5
"""Least gain in standard errors of its mean over the pieces."""

Progress = Callable[[str, int, int], object]
"""Called with what is being done, the number of steps done, and their total."""


@dataclass(frozen=True)
class EvaluationPlan:
    """What to evaluate, and on how much music."""

    weights: str
    backend: str = "auto"
    pieces: int = 6
    window_s: float = 5.0
    soundfont: Path | None = None


@dataclass(frozen=True)
class Clip:
    """One window of one rendering."""

    piece: int
    change: str
    samples: NDArray[np.float32]


@dataclass(frozen=True)
class LayerFigures:
    """Figures of one layer, or of the spectrum."""

    name: str
    precision: dict[str, float]  # change -> mean average precision
    nearest: dict[str, float]  # change -> share of windows whose nearest is of the same piece
    judged: float  # mean of `precision` over JUDGED
    cosine_raw: float  # mean cosine of windows of different pieces
    cosine_centred: float
    loudness: float  # share of the variance that the level explains


@dataclass(frozen=True)
class Evaluation:
    """The figures, and what they mean."""

    layers: list[LayerFigures]
    spectrum: LayerFigures
    untrained: list[float]  # for each layer, of untrained weights of the same shape
    chance: float
    best: int  # the layer that is judged: the best across JUDGED
    gain: float  # of that layer over the best layer of untrained weights
    gain_error: float  # standard error of `gain` over the pieces
    says_trained: bool  # what the weights say of themselves

    @property
    def good(self) -> bool:
        """Whether the weights are clearly better than untrained ones."""
        return self.gain >= MIN_GAIN and self.gain >= MIN_ERRORS * self.gain_error

    def verdict(self) -> str:
        """Return the judgement in a sentence."""
        measured = f"{self.gain:+.3f} ± {self.gain_error:.3f} mAP against untrained weights on other instruments"
        if self.good:
            return f"good: layer {self.best} hears the piece through its sound ({measured})"
        needed = f"needs {MIN_GAIN:+.2f} and {MIN_ERRORS:g} errors"
        return f"NO GOOD: these weights are no better than untrained ones ({measured}; {needed})"


def evaluate(plan: EvaluationPlan, progress: Progress = lambda *_: None) -> Evaluation:
    """Make the music, embed it with the weights and with untrained ones, and judge. Raises `MertdError`."""
    if plan.pieces < 3:
        raise UsageError(f"--pieces {plan.pieces}: at least 3 are needed, so that there are others to confuse a piece with")
    clips = make_clips(plan, progress)
    states, embedder = _embed(plan.weights, plan, clips, "network", progress)
    size = next(name for name, shape in SIZES.items() if shape == embedder.weights.architecture)
    untrained, _ = _embed(f"{RANDOM}{UNTRAINED_SEED}?size={size}", plan, clips, "untrained network", progress)
    levels = np.array([measure_levels(clip.samples).rms_dbfs for clip in clips])
    layers = [figures(f"layer {n}", states[:, n], clips, levels) for n in range(states.shape[1])]
    rivals = [figures(f"layer {n}", untrained[:, n], clips, levels) for n in range(states.shape[1])]
    spectrum = figures("spectrum", np.stack([spectral_features(clip.samples) for clip in clips]), clips, levels)
    best = int(np.argmax([layer.judged for layer in layers]))
    rival = int(np.argmax([layer.judged for layer in rivals]))
    gains = judged_precision(states[:, best], clips) - judged_precision(untrained[:, rival], clips)
    is_base = np.array([clip.change == BASE for clip in clips])
    numbers = np.array([clip.piece for clip in clips])
    return Evaluation(
        layers=layers,
        spectrum=spectrum,
        untrained=[layer.judged for layer in rivals],
        chance=chance(numbers[is_base], numbers[is_base]),
        best=best,
        gain=float(gains.mean()),
        gain_error=float(gains.std(ddof=1) / np.sqrt(len(gains))),
        says_trained=embedder.weights.trained,
    )


def make_clips(plan: EvaluationPlan, progress: Progress = lambda *_: None) -> list[Clip]:
    """Return all windows of all renderings of all pieces."""
    soundfont = find_soundfont(plan.soundfont)
    length = round(plan.window_s * SAMPLE_RATE)
    clips: list[Clip] = []
    for number in range(plan.pieces):
        progress("playing pieces", number, plan.pieces)
        piece = make_piece(number)
        seconds = WINDOWS * plan.window_s
        base = render(piece.midi(seconds), seconds, soundfont)
        versions = {
            BASE: base,
            "instruments": render(piece.in_other_instruments().midi(seconds), seconds, soundfont),
            "tempo": render(piece.in_other_tempo().midi(seconds), seconds, soundfont),
            "key": render(piece.in_other_key().midi(seconds), seconds, soundfont),
            "all three": render(piece.in_other_instruments().in_other_tempo().in_other_key().midi(seconds), seconds, soundfont),
            "noise": with_noise(base, number),
            "eq": equalised(base, number),
            "level": quieter(base),
            "mp3": through_mp3(base),
        }
        for change, sound in versions.items():
            clips += [Clip(number, change, sound[n * length : (n + 1) * length]) for n in range(WINDOWS)]
    progress("playing pieces", plan.pieces, plan.pieces)
    return clips


def figures(name: str, vectors: NDArray[np.float32], clips: Sequence[Clip], levels: NDArray[np.floating]) -> LayerFigures:
    """Return the figures of one description of the clips, (clips, size)."""
    pieces = np.array([clip.piece for clip in clips])
    changes = np.array([clip.change for clip in clips])
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    units = centred_units(vectors, mean)
    is_base = changes == BASE
    precision: dict[str, float] = {}
    nearest: dict[str, float] = {}
    for change in MUSICAL + TECHNICAL:
        asked = changes == change
        similarities = units[asked] @ units[is_base].T
        precision[change] = float(average_precisions(similarities, pieces[asked], pieces[is_base]).mean())
        nearest[change] = float(nearest_is_right(similarities, pieces[asked], pieces[is_base]).mean())
    return LayerFigures(
        name=name,
        precision=precision,
        nearest=nearest,
        judged=float(np.mean([precision[change] for change in JUDGED])),
        cosine_raw=mean_cosine(vectors, pieces, np.zeros_like(mean)),
        cosine_centred=mean_cosine(vectors, pieces, mean),
        loudness=loudness_share(vectors[is_base], levels[is_base]),
    )


def judged_precision(vectors: NDArray[np.float32], clips: Sequence[Clip]) -> NDArray[np.float64]:
    """Return for each piece the mean average precision across JUDGED, (pieces,)."""
    pieces = np.array([clip.piece for clip in clips])
    changes = np.array([clip.change for clip in clips])
    units = centred_units(vectors, vectors.mean(axis=0, dtype=np.float64).astype(np.float32))
    asked, is_base = np.isin(changes, JUDGED), changes == BASE
    found = average_precisions(units[asked] @ units[is_base].T, pieces[asked], pieces[is_base])
    return np.array([found[pieces[asked] == piece].mean() for piece in np.unique(pieces)])


def _embed(
    weights: str, plan: EvaluationPlan, clips: Sequence[Clip], name: str, progress: Progress
) -> tuple[NDArray[np.float32], Embedder]:
    """Return all hidden states of every clip, (clips, states, size), and the model."""
    progress(f"loading the {name}", 0, len(clips))
    length = len(clips[0].samples)
    first = Embedder(ModelSettings(weights, (0,), plan.backend, length))
    layers = tuple(range(first.weights.architecture.states))
    embedder = Embedder(ModelSettings(weights, layers, plan.backend, length))
    states: list[NDArray[np.float32]] = []
    for number, clip in enumerate(clips):
        progress(f"{name}: windows", number, len(clips))
        found = embedder.embed([clip.samples])[0]
        if found is None:
            raise BackendError(f"{embedder.backend.name} gave hidden states that are not finite for a made piece")
        states.append(found)
    return np.stack(states), embedder
