"""Single stories of a timeline: each is a race between the two processes that the law alone would find only by luck."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.simulation import JUMP_NS, LEVELS, RATE, Simulation
from mertd.capture.reports import MAX_UNREPORTED_SAMPLES
from mertd.embed.audio import Levels
from mertd.embed.messages import Answer
from mertd.windows import Late
from mertd.wire import Embedding, Event, encode


@pytest.fixture
def sim() -> Simulation:
    return Simulation(window=1_000, hop=500, late=Late.QUEUE, capacity=4_000)


def embed(sim: Simulation, most: int = 4) -> None:
    sim.take(most)
    sim.copy()
    sim.answer()
    sim.hear_embed(10)


def capture(sim: Simulation, samples: int, lost: int = 0) -> None:
    sim.write(samples, lost)
    sim.report()
    sim.hear_capture(100)


def embeddings(sim: Simulation) -> list[Embedding]:
    return [message for message in sim.published if isinstance(message, Embedding)]


def skips(sim: Simulation) -> list[tuple[int, str]]:
    return [(m.index, m.detail["reason"]) for m in sim.published if isinstance(m, Event) and m.event == "skipped"]


def test_a_vector_waits_until_its_samples_are_known_to_have_been_whole(sim: Simulation) -> None:
    capture(sim, 1_000)
    embed(sim)
    assert not embeddings(sim), "capture may have written while they were copied"
    capture(sim, 1)
    assert [m.window.start for m in embeddings(sim)] == [0]


@pytest.mark.parametrize(("spare", "embedded"), [(0, [0]), (-1, [])])
def test_if_all_reports_are_known_a_window_beyond_the_reach_of_capture_does_not_wait(spare: int, embedded: list[int]) -> None:
    sim = Simulation(1_000, 500, Late.QUEUE, 1_000 + MAX_UNREPORTED_SAMPLES + spare, attentive=True)
    capture(sim, 1_000)
    sim.take(1)
    sim.write(MAX_UNREPORTED_SAMPLES)  # all that may be written before the next report
    sim.copy()
    sim.answer()
    sim.hear_embed(10)
    assert [m.window.start for m in embeddings(sim)] == embedded


def test_what_was_reported_before_a_copy_and_is_not_known_counts() -> None:
    sim = Simulation(1_000, 500, Late.QUEUE, 1_000 + MAX_UNREPORTED_SAMPLES, attentive=True)
    capture(sim, 1_000)
    sim.take(1)
    sim.write(1)
    sim.report()
    sim.write(MAX_UNREPORTED_SAMPLES)
    sim.copy()
    sim.answer()
    sim.hear_embed(10)
    assert not embeddings(sim)


def test_samples_overwritten_while_they_were_read_are_noticed(sim: Simulation) -> None:
    capture(sim, 1_000)
    sim.take(1)
    sim.write(3_001)  # over the first sample of the window, and not yet reported
    sim.copy()
    sim.answer()
    sim.hear_embed(10)
    assert not embeddings(sim)
    sim.report()
    sim.hear_capture()
    assert not embeddings(sim)
    assert skips(sim)[0] == (0, "overwritten")


def test_a_window_that_cannot_be_embedded_is_skipped_alone(sim: Simulation) -> None:
    capture(sim, 1_000)
    sim.take(1)
    sim.copy()
    ((request,),) = sim.at_hand
    sim.at_hand.clear()
    sim.from_embed.append(("answered", Answer(request.token, LEVELS, None, 5, failed=True)))
    sim.hear_embed(10)
    capture(sim, 1_000)
    embed(sim)
    sim.finish()
    assert skips(sim) == [(0, "failed")]
    assert [m.window.start for m in embeddings(sim)] == [500, 1_000]
    assert [m.skipped for m in embeddings(sim)] == [1, 0]
    counters = sim.timeline.counters
    assert counters["due"] == 3 == counters["embedded"] + counters["skipped"]


def test_a_report_from_before_the_copy_proves_nothing(sim: Simulation) -> None:
    """Both processes write to pipes of their own: an old report may be heard after a newer copy."""
    capture(sim, 1_000)
    sim.take(1)
    sim.report()
    sim.write(3_001)
    sim.copy()
    sim.answer()
    sim.hear_embed(10)
    sim.hear_capture(1)
    assert not embeddings(sim), "what was written between the report and the copy is not known yet"
    sim.report()
    sim.hear_capture(1)
    assert not embeddings(sim)
    assert skips(sim)[0] == (0, "overwritten")


def test_samples_overwritten_after_they_were_read_do_not_matter(sim: Simulation) -> None:
    capture(sim, 1_000)
    sim.take(1)
    sim.copy()
    sim.report()  # says nothing new, but was made after the copy
    sim.write(3_500)
    sim.report()
    sim.answer()
    sim.hear_embed(10)
    sim.hear_capture(10)
    assert [m.window.start for m in embeddings(sim)] == [0]


def test_a_dead_capture_process_may_have_written_more_than_it_said(sim: Simulation) -> None:
    capture(sim, 1_000)
    sim.take(1)
    sim.copy()
    sim.hear_embed()
    sim.lose_capture(in_order=False)
    sim.answer()
    sim.hear_embed()
    assert skips(sim) == [(0, "overwritten")], f"up to {MAX_UNREPORTED_SAMPLES} samples were in doubt"


def test_what_a_dead_capture_process_may_have_written_is_not_forgotten_when_the_next_one_begins(sim: Simulation) -> None:
    capture(sim, 1_000)
    sim.write(3_500)  # over half of the window; then it dies, and nobody ever hears of it
    sim.lose_capture(in_order=False)
    sim.restart_capture()
    embed(sim)
    capture(sim, 100)
    assert not embeddings(sim)
    assert skips(sim) == [(0, "overwritten")]


def test_what_the_next_capture_process_writes_counts_too(sim: Simulation) -> None:
    capture(sim, 1_000)
    sim.lose_capture(in_order=True)
    sim.restart_capture()
    sim.take(1)
    sim.write(3_500)
    sim.copy()
    sim.answer()
    sim.hear_embed(10)
    assert not embeddings(sim), "the end of the process before says nothing of this one"
    capture(sim, 1)
    assert skips(sim)[0] == (0, "overwritten")


def test_a_second_copy_is_judged_anew(sim: Simulation) -> None:
    """The first model process died after its copy was found whole."""
    capture(sim, 1_000)
    sim.take(1)
    sim.copy()
    sim.hear_embed()
    capture(sim, 1)
    sim.lose_embed()
    sim.take(1)
    sim.write(3_500)
    sim.copy()
    sim.answer()
    sim.hear_embed(10)
    assert not embeddings(sim)
    capture(sim, 1)
    assert skips(sim) == [(0, "overwritten"), (500, "overwritten")], "in the order of the stream"


def test_a_window_that_kills_the_model_twice_is_given_up(sim: Simulation) -> None:
    capture(sim, 1_000)
    for attempt in range(2):
        sim.take(1)
        assert sim.asked[0][0].start == 0, attempt
        sim.lose_embed()
    assert skips(sim) == [(0, "failed")]
    capture(sim, 500)
    embed(sim)
    capture(sim, 1)
    assert [(m.window.start, m.skipped) for m in embeddings(sim)] == [(500, 1)]


def test_missing_samples_are_counted_in_each_window_that_has_them(sim: Simulation) -> None:
    capture(sim, 900, lost=0)
    capture(sim, 600, lost=200)  # [900, 1100) is missing
    embed(sim)
    capture(sim, 1)
    assert [(m.window.start, m.audio.missing) for m in embeddings(sim)] == [(0, 100), (500, 200)]
    assert sim.timeline.counters["missing"] == 200


def test_a_gap_is_remembered_as_long_as_a_window_may_need_it(sim: Simulation) -> None:
    capture(sim, 100, lost=200)
    for _ in range(3):
        capture(sim, 400)
    embed(sim)
    capture(sim, 1)
    assert [m.audio.missing for m in embeddings(sim)] == [200, 0]


def test_times_come_from_the_clock_of_the_windows_own_epoch(sim: Simulation) -> None:
    capture(sim, 1_000)
    sim.step_clock()
    sim.hear_capture(10)
    capture(sim, 1_000)
    embed(sim)
    capture(sim, 1)
    assert [m.epoch for m in embeddings(sim)] == [0, 1]
    for message in embeddings(sim):
        heard_ns = message.window.start * 10**9 // RATE + message.epoch * JUMP_NS
        assert message.time.start_ns == pytest.approx(heard_ns, abs=1_000)
        assert message.time.end_ns - message.time.start_ns == 10**9


def test_a_window_that_cannot_be_put_on_the_wire_is_announced_and_the_next_one_published(
    sim: Simulation, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is lost in silence, not even by a bug; and no number is used twice, or left out."""
    publish = sim.published.append
    sim.timeline._composer._publish = lambda message: (encode(message), publish(message))[1]
    capture(sim, 1_500)
    sim.take(2)
    sim.copy()
    ((bad, good),) = sim.at_hand
    levels = Levels(float("nan"), float("nan"), 0, 0)
    sim.from_embed.append(("answered", Answer(bad.token, levels, np.ones((1, 2), np.float32), 5)))
    sim.at_hand[0] = [good]
    sim.answer()
    sim.hear_embed(10)
    capture(sim, 1)
    assert skips(sim) == [(0, "failed")]
    assert [m.window.start for m in embeddings(sim)] == [500]
    assert [m.seq for m in sim.published if isinstance(m, Event)] == [0]
    counters = sim.timeline.counters
    assert (counters["due"], counters["embedded"], counters["skipped"], counters["silent"]) == (2, 1, 1, 0)
    assert "a window could not be published" in caplog.messages
