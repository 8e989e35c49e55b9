"""A picture of what was measured: bars next to the reference, and stacked bars of where the time goes. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mertd.errors import UsageError

OURS = "#2a6f97"
"""Colour of what mertd does."""

THEIRS = "#b8b8b8"
"""Colour of what it is compared with."""

SKIPPED = "#c8553d"
"""Colour of skipped windows."""

LOGARITHMIC = 30
"""Bars that differ by more than this factor are drawn on a logarithmic axis."""

STACK = ("#2a6f97", "#e9a03b", "#6a994e", "#8e5572", "#577590", "#bc6c25", "#a3b18a", "#c8553d")
"""Colours of the parts of a stacked bar."""


def draw(found: dict[str, Any], path: Path) -> None:
    """Write a picture to `path`, with a panel for each section that was measured. Raises `UsageError` if that fails."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = _panels(found)
    heights = [0.4 * rows + 0.75 for _, rows in panels]
    figure, axes = pyplot.subplots(
        len(panels), 1, figsize=(11, sum(heights) + 0.5), squeeze=False, height_ratios=heights, layout="constrained"
    )
    for (panel, _), axis in zip(panels, axes[:, 0], strict=True):
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
        panel(axis)
    machine = found["machine"]
    where = ", ".join(part for part in (machine["processor"], f"{machine['cores']} cores", machine["gpu"]) if part)
    what = f"{machine['weights']}, windows of {machine['window_s']:g} s"
    figure.suptitle(f"mertd {machine['mertd']} on {where}; {what}", fontsize=11, fontweight="bold", x=0.01, ha="left")
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as error:
        raise UsageError(f"--plot: cannot write {path}: {error}") from error
    finally:
        pyplot.close(figure)


def _panels(found: dict[str, Any]) -> list[tuple[Callable[[Any], None], int]]:
    """Return what draws each axis, and how many rows the axis has."""
    panels: list[tuple[Callable[[Any], None], int]] = []
    if section := found.get("backends"):
        for batch in sorted({row["batch"] for row in section["rows"]}):
            rows = [row for row in section["rows"] if row["batch"] == batch]
            panels.append((partial(_backends, rows=rows), len(rows)))
        if section["parts_ms"]:
            panels.append((lambda axis: _stack(axis, "Inside the model, ms", section["parts_ms"]), 2))
    if section_ := found.get("daemon"):
        journey = {name: spread["median"] for name, spread in section_["journey_ms"].items()}
        panels.append((lambda axis: _stack(axis, "A window on its way to a subscriber, ms", journey), 3))
        rest = partial(
            _stack, title="The same without the model and waiting for it, ms", parts=journey, without=("embed", "wait")
        )
        panels.append((rest, 3))
    if rows_ := found.get("fanout"):
        panels.append((lambda axis: _fanout(axis, rows_), 2 * len(rows_)))
    if start := found.get("startup"):
        stages = {name: spread["median"] for name, spread in start["embed_alone_s"].items()}
        panels.append((lambda axis: _startup(axis, start), 2))
        panels.append((lambda axis: _stack(axis, "Stages of the embed process, one after the other, s", stages), 4))
    if trials := found.get("streams"):
        panels.append((lambda axis: _streams(axis, trials), 5))
    return panels


def _backends(axis: Any, rows: list[dict[str, Any]]) -> None:
    """Draw the slowest on top. A bar ends with how many times as fast as PyTorch's eager float32 it is."""
    rows = sorted(rows, key=lambda row: row["ms_per_window"]["median"])
    eager = [row for row in rows if (row["name"], row["precision"]) == ("PyTorch eager", "float32")]
    reference = eager[0]["ms_per_window"]["median"] if eager else None
    names = [f"{row['name']}, {row['precision']}, {_form(row['states'])}" for row in rows]
    ms = [row["ms_per_window"] for row in rows]
    medians = [spread["median"] for spread in ms]
    errors = [[m["median"] - m["low"] for m in ms], [m["high"] - m["median"] for m in ms]]
    colours = [OURS if row["name"].startswith("mertd") else THEIRS for row in rows]
    axis.barh(names, medians, color=colours, xerr=errors, ecolor="#444444", capsize=2.5, height=0.7)
    for place, spread in enumerate(ms):
        factor = f"   {reference / spread['median']:.1f}x" if reference else ""
        axis.text(spread["high"], place, f"  {_short(spread['median'])}{factor}", va="center", fontsize=8)
    axis.margins(x=0.14)
    if medians[-1] > LOGARITHMIC * medians[0]:
        axis.set_xscale("log")
    times = "; x: times as fast as PyTorch eager float32" if reference else ""
    axis.set_title(f"Milliseconds a window, batch {rows[0]['batch']}: median, quartiles{times}", loc="left", fontsize=10)


def _stack(axis: Any, title: str, parts: dict[str, float], without: tuple[str, ...] = ()) -> None:
    """Draw one stacked bar. `without`: parts that are left out; the others keep their colours."""
    left = 0.0
    for colour, (part, value) in zip(STACK, parts.items(), strict=False):
        if part in without:
            continue
        axis.barh([""], [value], left=left, color=colour, label=f"{part}  {_short(value)}", height=0.5)
        left += value
    axis.set_yticks([])
    axis.set_ylim(-0.4, 0.4)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
    axis.set_title(title, loc="left", fontsize=10)


def _fanout(axis: Any, rows: list[dict[str, Any]]) -> None:
    for place, row in enumerate(reversed(rows)):
        for shift, key, colour, name in ((0.2, "mertd_per_s", OURS, "mertd"), (-0.2, "pyzmq_per_s", THEIRS, "bare pyzmq")):
            spread = row[key]
            error = [[spread["median"] - spread["low"]], [spread["high"] - spread["median"]]]
            axis.barh(
                place + shift,
                spread["median"],
                0.36,
                color=colour,
                xerr=error,
                ecolor="#444444",
                capsize=2.5,
                label=name if not place else None,
            )
        axis.text(
            max(row["mertd_per_s"]["high"], row["pyzmq_per_s"]["high"]),
            place,
            f"  ratio {row['ratio']['median']:.2f}",
            va="center",
            fontsize=8,
        )
    axis.set_yticks(range(len(rows)), [f"{row['subscribers']} subscribers" for row in reversed(rows)])
    axis.margins(x=0.14)
    axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axis.set_title("Messages delivered a second", loc="left", fontsize=10)


def _startup(axis: Any, found: dict[str, Any]) -> None:
    names = list(found["daemon_s"])[::-1]
    values = [found["daemon_s"][name]["median"] for name in names]
    axis.barh(names, values, color=OURS, height=0.6)
    for place, value in enumerate(values):
        axis.text(value, place, f"  {value:.2f}", va="center", fontsize=8)
    axis.margins(x=0.1)
    axis.set_title("`mertd run`: seconds from the command until", loc="left", fontsize=10)


def _streams(axis: Any, found: dict[str, Any]) -> None:
    trials = found["trials"]
    names = [str(trial["streams"]) for trial in trials]
    embedded = [trial["embedded"] / max(1, trial["due"]) * 100 for trial in trials]
    skipped = [trial["skipped"] / max(1, trial["due"]) * 100 for trial in trials]
    axis.bar(names, embedded, color=OURS, width=0.6, label="embedded")
    axis.bar(names, skipped, bottom=embedded, color=SKIPPED, width=0.6, label="skipped")
    axis.set_ylabel("% of windows")
    axis.set_xlabel("streams at once, hop 5 s")
    axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axis.set_title(f"Streams in real time: {found['carried']} without a window skipped", loc="left", fontsize=10)


def _form(states: list[int]) -> str:
    return f"{len(states)} states" if len(states) > 1 else f"layer {states[0]}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
