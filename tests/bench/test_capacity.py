"""What ends a search for the number of streams: said by what the processes took."""

from __future__ import annotations

import pytest
from rich.console import Console

from mertd.bench import capacity
from mertd.bench.capacity import Load, Trial, ended_by, most_carried
from mertd.bench.running import sources
from mertd.cli.bench_report import _streams


def load(supervisor: float, captures: float, model: float, others: float = 0.0) -> Load:
    return Load(supervisor, captures, model, others, 4, 60.0)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (load(97, 300, 100), "supervisor: its core is full (97 %)"),
        (load(50, 900, 100, 400), "processors: 1450 % of 16 cores, captures 900, model 100, other programs 400"),
        (load(50, 300, 99), "model: its process takes 99 % of a core, and 1151 % are idle"),
    ],
)
def test_what_is_full_is_named(found: Load, words: str) -> None:
    assert found.explain(16) == words


def test_the_search_narrows_down_where_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 700

    def trial(_: list[str], count: int, __: float, source: str) -> Trial:
        return Trial(count, 10, 10, 0, 1.0, load(1, 2, 3), "" if count <= limit else f"the limit of {source}")

    monkeypatch.setattr(capacity, "trial", trial)
    trials = capacity.measure([], 1.0, 256, 2_048, lambda _: None, "synth:tone")
    assert [t.streams for t in trials] == [256, 512, 640, 704, 768, 1_024]
    assert most_carried(trials) == 640
    assert ended_by(trials) == "the limit of synth:tone"


@pytest.mark.slow
def test_a_daemon_that_cannot_carry_so_many_ends_the_search_and_not_the_bench() -> None:
    found = capacity.trial(["--weights", "random:0?size=tiny", "--layers", "99"], 1, 1.0, "synth:tone")
    assert not found.carried
    assert "99" in found.ended_by
    console = Console(record=True, width=200)
    _streams(console, {"carried": 0, "trials": [found.as_json()]})
    assert found.ended_by in console.export_text()


def test_each_stream_has_the_source_and_a_name() -> None:
    assert list(sources(2, "synth:tone?rate=24000")) == [
        "--source",
        "synth:tone?rate=24000&name=s0",
        "--source",
        "synth:tone?rate=24000&name=s1",
    ]
