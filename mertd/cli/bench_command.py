"""`mertd bench`: measurements as tables, as JSON or as a picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mertd.bench.sections import ON_REQUEST, SECTIONS, Plan
from mertd.cli.lazy_group import single_command
from mertd.cli.options import Threads
from mertd.embed.threads import MAX_THREADS
from mertd.embed.threads import limit as limit_threads
from mertd.errors import UsageError

commands = single_command()


@commands.command()
def bench(
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="SECTION", help=f"{', '.join(SECTIONS)}, and on request {', '.join(ON_REQUEST)}; repeatable."),
    ] = None,
    weights: Annotated[str | None, typer.Option(help="A safetensors file, or random:SEED (random:0).")] = None,
    seconds: Annotated[float | None, typer.Option(min=1, help="Seconds of audio in a window (30).")] = None,
    runs: Annotated[int | None, typer.Option(min=1, help="Number of times that each contender is measured (5).")] = None,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Windows at once; repeatable (1, and 8 where there is a GPU).")
    ] = None,
    threads: Threads = None,
    first_streams: Annotated[int, typer.Option(min=1, help="Where the search for streams per machine begins.")] = 1,
    most_streams: Annotated[int, typer.Option(min=1, help="Where the search for streams per machine ends.")] = 64,
    stream_source: Annotated[
        str, typer.Option(metavar="ADDRESS", help="What each of these streams listens to.")
    ] = "synth:chords",
    files: Annotated[int, typer.Option(min=1, help="Sound files that are embedded.")] = 8,
    length: Annotated[float, typer.Option(min=1, help="Seconds of each of them.")] = 60.0,
    pieces: Annotated[int, typer.Option(min=2, help="Pieces of made music, for changes and rooms.")] = 6,
    vectors: Annotated[int, typer.Option(min=1_000, help="Vectors of the memory that is searched.")] = 40_960,
    week: Annotated[int, typer.Option(min=1_000, help="Vectors that stand for a week of a busy memory.")] = 20_000,
    against: Annotated[
        list[str] | None, typer.Option(metavar="STORE", help="numpy, lancedb or sqlite-vec, beside memory; repeatable (numpy).")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A tiny network and short rounds, to see that all works.")] = False,
    json: Annotated[str | None, typer.Option(metavar="FILE", help="Write the figures as JSON; - is standard output.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw them; needs matplotlib.")] = None,
) -> None:
    """Measure every part here: backends against PyTorch, the daemon, fan-out, start-up, streams per machine."""
    from mertd.cli.bench_report import measure

    plan = Plan(
        sections=only or SECTIONS,
        weights=weights or ("random:0?size=tiny" if quick else "random:0"),
        seconds=seconds or (2.0 if quick else 30.0),
        runs=runs or (2 if quick else 5),
        batches=batch or (),
        first_streams=first_streams,
        most_streams=most_streams,
        stream_source=stream_source,
        files=files,
        length=length,
        pieces=pieces,
        vectors=vectors,
        week=week,
        against=against or ("numpy",),
        quick=quick,
    )
    if threads is not None:
        if not 1 <= threads <= MAX_THREADS:
            raise UsageError(f"--threads {threads}: expected a number from 1 to {MAX_THREADS:,}")
        os.environ["MERTD_THREADS"] = str(threads)  # for the daemons that are started
    limit_threads(threads)
    measure(plan, json, plot)
