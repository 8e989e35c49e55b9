"""Days in accelerated time: whatever goes on for long, nothing in a timeline grows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from daemon.simulation import Simulation
from footprint import footprint
from mertd.windows import Late
from mertd.wire import Embedding, Event

HOPS_A_DAY = 4_320
"""Of 20 s; a window is 120 s. There is one sample a second, which the bookkeeping does not notice."""


def day(late: Late, step: Callable[[Simulation, int], None], hops: int = HOPS_A_DAY) -> tuple[Simulation, list[int]]:
    """The timeline after a day of steps, a hop each, and what it held after each tenth of the day."""
    sim = Simulation(window=120, hop=20, late=late, capacity=260, rate=1)
    sizes, counted = [], {"embedding": 0, "event": 0, "skipped": 0}
    for hop in range(hops):
        step(sim, hop)
        for message in sim.published:
            assert message.seq == counted[message.kind]
            counted[message.kind] += 1
            if isinstance(message, Event) and message.event == "skipped":
                counted["skipped"] += message.detail["windows"]
        sim.published.clear()
        for token in list(sim.copies)[:-10]:  # the simulation's own memory
            del sim.copies[token], sim.windows[token]
        sim.truth = sim.truth[:0]
        if hop % (hops // 10) == hops // 20:
            sizes.append(footprint(sim.timeline, (list,)))
    counters = sim.timeline.counters
    assert counters["due"] == counters["embedded"] + counters["silent"] + counters["skipped"] + counters["waiting"]
    assert counters["skipped"] == counted["skipped"]
    assert counters["embedded"] == counted["embedding"]
    return sim, sizes


def listen(sim: Simulation, lost: int = 0) -> None:
    """A hop of samples comes in."""
    sim.write(20 - lost, lost)
    sim.first_of_epoch = True  # a clock reading with every report
    sim.report()
    sim.hear_capture(10)


def embed(sim: Simulation) -> None:
    sim.take(1)
    sim.copy()
    sim.answer()
    sim.hear_embed(10)


def flat(sizes: list[int]) -> bool:
    """Whether the later half of the day needed no more than the first, give or take what a moment may differ by."""
    half = len(sizes) // 2
    return max(sizes[half:]) <= max(sizes[:half]) * 1.05 + 50


@pytest.mark.parametrize("late", Late)
def test_a_day_without_incident(late: Late) -> None:
    def step(sim: Simulation, _: int) -> None:
        listen(sim)
        embed(sim)

    sim, sizes = day(late, step)
    assert sim.timeline.counters["skipped"] == 0
    assert sim.timeline.counters["embedded"] >= HOPS_A_DAY - 7
    assert flat(sizes), sizes


@pytest.mark.parametrize("late", Late)
def test_a_day_with_a_model_half_as_fast_as_needed(late: Late) -> None:
    def step(sim: Simulation, hop: int) -> None:
        listen(sim)
        if hop % 2:
            embed(sim)

    sim, sizes = day(late, step)
    assert sim.timeline.counters["skipped"] > HOPS_A_DAY // 3
    assert flat(sizes), sizes


def test_a_day_without_a_model() -> None:
    def step(sim: Simulation, _: int) -> None:
        listen(sim)

    sim, sizes = day(Late.LATEST, step)
    assert sim.timeline.counters["embedded"] == 0
    assert flat(sizes), sizes


@pytest.mark.parametrize("late", Late)
def test_a_day_of_a_device_that_comes_and_goes(late: Late) -> None:
    def step(sim: Simulation, hop: int) -> None:
        listen(sim)
        if hop % 3 == 0:
            embed(sim)  # four in an epoch in which six or seven are due
        if hop % 12 == 11:
            sim.lose_capture(in_order=hop % 24 == 23)
            sim.restart_capture()

    sim, sizes = day(late, step)
    assert sim.timeline.epoch == HOPS_A_DAY // 12
    assert sim.timeline.counters["embedded"] > 0
    assert flat(sizes), sizes


def test_a_day_of_a_source_that_loses_samples_and_a_model_that_dies() -> None:
    def step(sim: Simulation, hop: int) -> None:
        listen(sim, lost=2 if hop % 4 == 0 else 0)
        embed(sim)
        if hop % 10 == 9:
            sim.take(1)
            sim.copy()
            sim.lose_embed()

    sim, sizes = day(Late.QUEUE, step)
    assert sim.timeline.counters["missing"] == 2 * HOPS_A_DAY // 4
    assert flat(sizes), sizes


def test_a_day_of_silence() -> None:
    def step(sim: Simulation, _: int) -> None:
        listen(sim)
        sim.take(1)
        sim.copy()
        sim.answer(silent=True)
        sim.hear_embed(10)

    sim, sizes = day(Late.LATEST, step)
    assert sim.timeline.counters["silent"] >= HOPS_A_DAY - 7
    assert not [message for message in sim.published if isinstance(message, Embedding)]
    assert flat(sizes), sizes
