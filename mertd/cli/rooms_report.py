"""What `mertd similar --across` prints: which stream heard the same as another one, and how much later."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mertd.cli.memory_commands import moment
from mertd.cli.output import complain, reader_may_leave, say, say_json, show_progress
from mertd.errors import UsageError

if TYPE_CHECKING:
    from mertd.memory.across.rooms import Comparisons, HeardTwice
    from mertd.memory.changes.stream_reading import StreamKey

DEFAULT_SINCE = "12h"
"""Since when, if nothing else is asked for."""

MAX_OTHERS = 4
"""Other lags of a sound that are printed; --json has all."""


@dataclass(frozen=True)
class AcrossOptions:
    """What was asked for on the command line."""

    memory: Path | None
    since: str | None
    begin: str | None
    end: str | None
    streams: Sequence[str]
    daemons: Sequence[str]
    within_s: float
    json: bool


def report_across(options: AcrossOptions) -> None:
    """Compare streams and print what any two of them have in common. Raises `MertdError`."""
    from mertd.memory.across.rooms import chosen_keys, heard_twice
    from mertd.memory.changes.stream_reading import stream_keys
    from mertd.memory.memory import Memory
    from mertd.memory.queries import Selection

    if options.since is not None and options.begin is not None:
        raise UsageError("--since and --from exclude each other; give one of them")
    from_words = options.since if options.since is not None else options.begin
    if from_words is None and options.end is None:
        from_words = DEFAULT_SINCE
    wanted = Selection.between(from_words, options.end, time.time_ns())
    if wanted.until_ns < wanted.since_ns:
        raise UsageError(f"--to {options.end} is before {from_words}; write the date too, as '2026-11-25 21:00'")
    folder = Memory(options.memory).folder
    known = stream_keys(folder)
    for option, given, names in (
        ("--stream", options.streams, {key.stream for key in known}),
        ("--daemon", options.daemons, {key.daemon for key in known}),
    ):
        if unknown := sorted(set(given) - names):
            choices = ", ".join(sorted(names)) or "none"
            raise UsageError(f"{option} {unknown[0]}: nothing of this name is remembered; choose one of {choices}")
    keys = chosen_keys(known, options.streams, options.daemons)
    result = heard_twice(folder, keys, wanted.since_ns, wanted.until_ns, round(options.within_s * 1e9), show_progress)
    show_progress("")
    with reader_may_leave():
        for heard in result.found:
            if options.json:
                say_json(heard_map(heard))
            else:
                say(_line(heard, keys))
    _explain(result, options)


def heard_map(heard: HeardTwice) -> dict[str, Any]:
    """Return what two streams have in common as a map."""
    first, second = heard.first, heard.second
    return {
        "space": first.space,
        "first": {"daemon": first.daemon, "stream": first.stream},
        "second": {"daemon": second.daemon, "stream": second.stream},
        "order_known": heard.order_known,
        **vars(heard.sound),
    }


def _line(heard: HeardTwice, keys: Sequence[StreamKey]) -> str:
    sound = heard.sound
    first, second = (_name(key, keys) for key in (heard.first, heard.second))
    lag, bound = sound.lag_ns / 1e9, sound.bound_ns / 1e9
    times = f"{moment(sound.start_ns)} – {moment(sound.end_ns)[11:]}"
    if heard.order_known:
        words = f"{first}, and {second} {lag:.1f} ± {bound:.1f} s later"
    else:
        words = f"{first} and {second} at once ({lag:.1f} ± {bound:.1f} s apart)"
    if sound.drift_ppm is not None:
        words += f", the lag changes by {sound.drift_ppm:+.0f} ppm"
    if sound.also_ns:
        others = ", ".join(f"{lag / 1e9:.1f}" for lag in sound.also_ns[:MAX_OTHERS])
        more = " and more" if len(sound.also_ns) > MAX_OTHERS else ""
        words += f", UNCERTAIN: {others} s{more} may be the lag as well, as the sound repeats itself"
    return f"{times}  {words}  by chance {sound.by_chance:.0e}"


def _name(key: StreamKey, keys: Sequence[StreamKey]) -> str:
    """Return the name of a stream, with its daemon if several have one of this name."""
    several = len({one.daemon for one in keys if one.stream == key.stream}) > 1
    return f"{key.stream} of {key.daemon}" if several else key.stream


def _explain(result: Comparisons, options: AcrossOptions) -> None:
    """Say on standard error what could not be compared, and that nothing was found."""
    if not result.pairs:
        complain("fewer than two streams of one space are remembered; `mertd memory info` shows which there are")
    elif result.too_short:
        complain(
            f"{result.too_short} of {result.pairs} pairs of streams have too little time in common to tell the same sound "
            "from chance: some minutes are needed, more with long windows"
        )
    if result.pairs > result.too_short and not result.found:
        complain(f"no two streams heard the same within {options.within_s:g} s of each other, as far as can be told")
