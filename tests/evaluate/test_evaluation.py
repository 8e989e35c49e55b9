"""The judgement, with real music, real networks and the real command."""

from __future__ import annotations

import json

import numpy as np
import pytest

from command_process import mertd
from made_music import needs_fluidsynth
from mertd.errors import UsageError
from mertd.evaluate.evaluation import BASE, Clip, Evaluation, EvaluationPlan, LayerFigures, evaluate, figures, judged_precision
from mertd.evaluate.synthesiser import SynthesiserError, find_soundfont, render

NOTHING = np.zeros(10, np.float32)


def clips() -> list[Clip]:
    changes = (BASE, "tempo", "key", "instruments", "all three", "noise", "eq", "level", "mp3")
    return [Clip(piece, change, NOTHING) for piece in range(5) for change in changes for _ in range(2)]


def evaluation(gain: float, error: float) -> Evaluation:
    layer = LayerFigures("layer 0", {}, {}, 0.5, 0.9, 0.0, 0.1)
    return Evaluation([layer], layer, [0.5], 0.4, 0, gain, error, says_trained=True)


def test_vectors_that_know_the_piece_are_perfect_and_those_that_know_the_sound_are_not() -> None:
    made = clips()
    generator = np.random.default_rng(0)
    by_piece = generator.standard_normal((5, 16)).astype(np.float32)
    knowing = np.stack([by_piece[clip.piece] for clip in made]) + 0.01 * generator.standard_normal((len(made), 16))
    found = figures("layer 0", knowing.astype(np.float32), made, np.full(len(made), -20.0))
    assert found.judged == 1
    assert set(found.nearest.values()) == {1.0}
    assert judged_precision(knowing.astype(np.float32), made).tolist() == [1.0] * 5
    deaf = generator.standard_normal((len(made), 16)).astype(np.float32)
    assert figures("layer 0", deaf, made, np.full(len(made), -20.0)).judged < 0.75


@pytest.mark.parametrize(
    ("gain", "error", "good"), [(0.3, 0.05, True), (0.04, 0.001, False), (0.2, 0.1, False), (-0.1, 0.01, False)]
)
def test_weights_are_good_only_if_they_are_clearly_better_than_untrained(gain: float, error: float, good: bool) -> None:
    found = evaluation(gain, error)
    assert found.good is good
    assert found.verdict().startswith("good" if good else "NO GOOD")


def test_too_few_pieces_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 3"):
        evaluate(EvaluationPlan("random:0?size=tiny", pieces=2))


@needs_fluidsynth
@pytest.mark.slow
def test_a_soundfont_that_is_none_is_named(tmp_path: object) -> None:
    with pytest.raises(SynthesiserError, match="does not exist"):
        find_soundfont(tmp_path / "none.sf2")  # type: ignore[operator]
    broken = tmp_path / "broken.sf2"  # type: ignore[operator]
    broken.write_bytes(b"nothing")
    with pytest.raises(SynthesiserError):
        render(b"no midi", 1, broken)


@needs_fluidsynth
@pytest.mark.slow
def test_random_weights_are_said_to_be_no_good() -> None:
    done = mertd("model", "evaluate", "--weights", "random:0?size=tiny", "--window", "1", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 3
    assert not found["good"]
    assert "NO GOOD" in found["verdict"]
    assert len(found["layers"]) == 3
    nearest = [layer["nearest"]["level"] for layer in found["layers"]]
    assert nearest == [1.0, 1.0, 1.0], "windows are normalised, so a level is not heard"
