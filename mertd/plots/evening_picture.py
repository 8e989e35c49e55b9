"""Draws spans: novelty with its changes, the square of self-similarity, and the path in two dimensions. Needs matplotlib."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from mertd.errors import UsageError
from mertd.plots.pictured_span import PicturedSpan
from mertd.text import printable
from mertd.view.pictures import LEVELS, NOT_HEARD, find_axes, square

LINE = "#2a6f97"
"""Colour of novelty."""

CHANGED = "#c8553d"
"""Colour of changes."""

RETURNED = "#6a994e"
"""Colour of changes with which the sound came back."""

UNKNOWN = "#dddddd"
"""Colour of moments that were not heard."""

MAX_TITLE = 80
"""Characters of a name."""

HEIGHT = 7.2
"""Inches of each stream."""

TICKS = 6
"""Times that an axis shows, about."""

DAY_S = 86_400
"""Seconds after which times are shown with their day."""

BELOW_A_DAY_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200)
"""Seconds between two of them, of less than a day."""

STEPS_S = (*BELOW_A_DAY_S, *(DAY_S << doublings for doublings in range(9)))
"""Seconds between two of them."""


def draw(spans: Sequence[PicturedSpan], path: Path) -> None:
    """Write a picture to `path`; its ending says in which format. Raises `UsageError` if that fails."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(11, HEIGHT * len(spans)), layout="constrained")
    parts = np.atleast_1d(figure.subfigures(len(spans), 1))
    try:
        for part, span in zip(parts, spans, strict=True):
            _draw_span(part, span)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # of names in other scripts
            figure.savefig(path, dpi=110)
    except (OSError, ValueError) as error:
        raise UsageError(f"--plot: cannot write {path}: {error}") from error
    finally:
        pyplot.close(figure)


def _draw_span(part: Any, span: PicturedSpan) -> None:
    sketch = span.sketch
    untrained = "" if span.trained else "   UNTRAINED: these vectors mean nothing"
    when = f"{_when(span, sketch.since_ns)} – {_when(span, sketch.until_ns)}"
    title = f"{printable(span.title, MAX_TITLE)}   {when}   {sketch.count} windows{untrained}"
    part.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left").set_parse_math(False)
    grid = part.add_gridspec(2, 2, height_ratios=(1, 2.1))
    _novelty(part.add_subplot(grid[0, :]), span)
    means, counts = sketch.means()
    _square(part.add_subplot(grid[1, 0]), span, square(means, counts))
    _path(part.add_subplot(grid[1, 1]), span, means, counts)


def _novelty(axis: Any, span: PicturedSpan) -> None:
    times, values = span.sketch.line()
    axis.fill_between(_seconds(span, times), values, color=LINE, alpha=0.25, linewidth=0)
    axis.plot(_seconds(span, times), values, color=LINE, linewidth=1)
    told: set[bool] = set()
    for time_ns, returned in span.changes:
        colour, label = (RETURNED, "return") if returned else (CHANGED, "change")
        place = (time_ns - span.sketch.since_ns) / 1e9
        axis.axvline(place, color=colour, linewidth=1, linestyle="--", label=None if returned in told else label)
        told.add(returned)
    if told:
        axis.legend(fontsize=8, frameon=False, loc="upper right")
    axis.set_xlim(0, _length_s(span))
    axis.set_ylim(bottom=0)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title("Novelty, as a share of the stream's variance", loc="left", fontsize=10)
    _ticks(axis.xaxis, span)
    axis.tick_params(labelsize=8)


def _square(axis: Any, span: PicturedSpan, levels: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    from matplotlib import colormaps

    alike = np.ma.masked_where(levels == NOT_HEARD, levels / (LEVELS / 2) - 1)
    colours = colormaps["magma"].with_extremes(bad=UNKNOWN)
    length_s = _length_s(span)
    shown = axis.imshow(alike, cmap=colours, vmin=-1, vmax=1, origin="lower", extent=(0, length_s, 0, length_s))
    bar = axis.figure.colorbar(shown, ax=axis, shrink=0.8)
    bar.ax.tick_params(labelsize=8)
    axis.set_title("How alike two moments are, seen from the mean", loc="left", fontsize=10)
    _ticks(axis.xaxis, span)
    _ticks(axis.yaxis, span)
    axis.tick_params(labelsize=8)


def _path(axis: Any, span: PicturedSpan, means: np.ndarray[Any, Any], counts: np.ndarray[Any, Any]) -> None:
    heard = counts > 0
    axes = find_axes(means[heard])
    axis.set_title("Path; its axes are no properties of the sound", loc="left", fontsize=10)
    axis.tick_params(labelsize=8)
    if axes is None:
        axis.text(0.5, 0.5, "too few windows that differ", ha="center", va="center", fontsize=9, transform=axis.transAxes)
        axis.set_axis_off()
        return
    places = axes.place(means[heard])
    moments = (np.flatnonzero(heard) + 0.5) * _length_s(span) / len(counts)
    axis.plot(places[:, 0], places[:, 1], color=UNKNOWN, linewidth=0.7, zorder=1)
    shown = axis.scatter(places[:, 0], places[:, 1], c=moments, cmap="viridis", s=9, zorder=2, vmin=0, vmax=_length_s(span))
    bar = axis.figure.colorbar(shown, ax=axis, shrink=0.8)
    _ticks(bar.ax.yaxis, span)
    bar.ax.tick_params(labelsize=8)
    first, second = (f"{share:.0%} of the variance" for share in axes.share)
    axis.set_xlabel(first, fontsize=8)
    axis.set_ylabel(second, fontsize=8)


def _ticks(axis: Any, span: PicturedSpan) -> None:
    """Let an axis in seconds since the beginning show times."""
    from matplotlib.ticker import FixedLocator, FuncFormatter

    axis.set_major_locator(FixedLocator(round_times(span)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _when(span, span.sketch.since_ns + round(value * 1e9))))


def round_times(span: PicturedSpan) -> list[float]:
    """Return round times within a span, in seconds since its beginning; round in this time zone, or since the start."""
    length_s = _length_s(span)
    step_s = next((step for step in STEPS_S if length_s / step <= TICKS), STEPS_S[-1])
    since_s = span.sketch.since_ns / 1e9
    offset = datetime.fromtimestamp(since_s).astimezone().utcoffset() if span.by_clock else None
    local_s = since_s + (offset.total_seconds() if offset is not None else 0.0)
    first = math.ceil(local_s / step_s) * step_s - local_s
    return [first + number * step_s for number in range(int((length_s - first) // step_s) + 1)]


def _when(span: PicturedSpan, time_ns: int) -> str:
    """Return a time of day, with the day if the span is long; or minutes and seconds of a recording."""
    if span.by_clock:
        form = "%m-%d %H:%M" if _length_s(span) > DAY_S else "%H:%M" if _length_s(span) > 600 else "%H:%M:%S"
        return datetime.fromtimestamp(time_ns / 1e9).astimezone().strftime(form)
    minutes, seconds = divmod(round(time_ns / 1e9), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _seconds(span: PicturedSpan, times: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray((times - span.sketch.since_ns) / 1e9)


def _length_s(span: PicturedSpan) -> float:
    return max(1e-3, (span.sketch.until_ns - span.sketch.since_ns) / 1e9)
