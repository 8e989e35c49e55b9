"""The status of a daemon with very many streams: complete, within what the wire carries, and one line for a service manager."""

from __future__ import annotations

import asyncio

from daemon.scripted_daemon import ScriptedDaemon
from mertd.daemon.status import MAX_PROCESSES_BYTES, MAX_STREAMS_BYTES, StatusReporter, StatusSources
from mertd.wire import encode, fit
from messages import status
from virtual_time import run

STREAMS = 1_000
NAME = "a-room-with-a-name"


def reporter(daemon: ScriptedDaemon) -> StatusReporter:
    sources = StatusSources(daemon.state, daemon.streams, daemon.worker, None, dict)  # type: ignore[arg-type]
    return StatusReporter(bytes(16), "studio", sources)


def test_a_thousand_streams_are_all_in_it() -> None:
    async def one() -> tuple[dict[str, object], dict[str, object]]:
        daemon = ScriptedDaemon(f"synth:chords?name={NAME}")
        await daemon.opened(NAME)
        daemon.wrote(NAME, 30_000_000)
        stream = daemon.streams[NAME]
        found = stream.status, stream.process_status
        await daemon.close()
        return found

    stream, process = run(one())
    names = [f"{NAME}-{number}" for number in range(STREAMS)]
    streams = fit(dict.fromkeys(names, stream), MAX_STREAMS_BYTES)
    processes = fit({f"capture-{name}": process for name in names}, MAX_PROCESSES_BYTES)
    assert list(streams) == names
    assert len(processes) == STREAMS
    encode(status(streams=streams, processes=processes))


def test_the_line_names_few_streams_and_counts_many() -> None:
    async def line(*names: str) -> str:
        daemon = ScriptedDaemon(*(f"synth:tone?name={name}" for name in names))
        await asyncio.sleep(0)
        await daemon.opened(names[0])
        found = reporter(daemon).summary()
        await daemon.close()
        return found

    assert run(line("a", "b")) == ("model not ready; a listening: 0 embedded, 0 skipped; b opening: 0 embedded, 0 skipped")
    many = run(line(*(f"s{number}" for number in range(9))))
    assert many == "model not ready; 9 streams, 1 listening, 8 opening: 0 embedded, 0 skipped"
