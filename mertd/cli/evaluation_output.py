"""`mertd model evaluate`: are these weights any good?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mertd.cli.options import Backend, Json, Weights
from mertd.cli.output import new_console, say, say_json

if TYPE_CHECKING:
    from mertd.evaluate.evaluation import Evaluation, LayerFigures


def evaluate(
    weights: Weights = None,
    backend: Backend = None,
    pieces: Annotated[int, typer.Option(min=3, help="Pieces of music to make.")] = 6,
    window: Annotated[float, typer.Option(min=1, max=120, help="Seconds in a window; shorter is faster.")] = 5.0,
    soundfont: Annotated[Path | None, typer.Option(help="A General MIDI soundfont; by default the system's.")] = None,
    json: Json = False,
) -> None:
    """Prove that weights are good, with music made here; needs fluidsynth. Exits with 3 if they are not."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from mertd.cli.read_settings import settings_from_options
    from mertd.config import weights_spec
    from mertd.evaluate.evaluation import EvaluationPlan
    from mertd.evaluate.evaluation import evaluate as measure

    settings = settings_from_options(None, {"weights": weights, "backend": backend})
    plan = EvaluationPlan(weights_spec(settings), settings.backend, pieces, window, soundfont)
    console = new_console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("playing pieces", total=None)

        def show(what: str, done: int, total: int) -> None:
            bars.update(task, description=what, completed=done, total=total)

        found = measure(plan, show)
    if json:
        say_json(_as_json(found, plan.weights))
    else:
        _print(found, plan.weights)
    raise typer.Exit(0 if found.good else 3)


def _as_json(found: Evaluation, weights: str) -> dict[str, object]:
    return {
        "weights": weights,
        "says_trained": found.says_trained,
        "good": found.good,
        "verdict": found.verdict(),
        "best_layer": found.best,
        "gain": found.gain,
        "gain_error": found.gain_error,
        "chance": found.chance,
        "layers": [layer.__dict__ for layer in found.layers],
        "spectrum": found.spectrum.__dict__,
        "untrained_judged": found.untrained,
    }


def _print(found: Evaluation, weights: str) -> None:
    from mertd.evaluate.evaluation import MUSICAL, TECHNICAL

    changes = MUSICAL + TECHNICAL
    say("Pieces found again, by what was changed: mean average precision / share whose nearest is right")
    say(f"{'':10}" + "".join(f"{change:>13}" for change in changes))
    for layer in [*found.layers, found.spectrum]:
        say(f"{layer.name:10}" + "".join(f"  {layer.precision[c]:5.2f} / {layer.nearest[c]:.2f}" for c in changes))
    say(f"by chance, mAP would be {found.chance:.2f}")
    say()
    say("Mean cosine of windows of different pieces, and the share of the variance that is loudness")
    say(f"{'':10}{'raw':>9}{'centred':>9}{'loudness':>10}{'judged mAP':>13}{'untrained':>11}")
    for number, layer in enumerate(found.layers):
        say(_line(layer) + f"{found.untrained[number]:11.2f}")
    say(_line(found.spectrum))
    say()
    say(f"{weights}{'' if found.says_trained else ' (UNTRAINED, by its own word)'}")
    say(found.verdict())


def _line(layer: LayerFigures) -> str:
    figures = f"{layer.cosine_raw:9.3f}{layer.cosine_centred:9.3f}{100 * layer.loudness:8.1f} %{layer.judged:13.2f}"
    return f"{layer.name:10}{figures}"
