"""From a daemon's messages to what Prometheus reads."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read

from mertd.metrics.collector import DaemonCollector
from mertd.metrics.definitions import DEFINITIONS, MetricKind
from mertd.metrics.observed import FIRST_FRESH_S, FORGET_S, MAX_DAEMONS, MAX_STREAMS, STALE_S, Observed
from mertd.text import printable
from mertd.vocabulary import HealthState, Phase, SkipReason, StreamState
from mertd.wire import Audio, Latency, Status, Time
from messages import DAEMON, embedding, event, status

ENDPOINT = "tcp://127.0.0.1:5590"
STREAM = {
    "state": "listening",
    "restarts": 2,
    "samples": 240_000,
    "missing": 12_000,
    "due": 9,
    "embedded": 5,
    "silent": 1,
    "skipped": 3,
    "waiting": 0,
    "events": 7,
    "skips": {"late": 2, "overwritten": 0, "failed": 1},
}
SUPERVISOR = {
    "state": "healthy",
    "restarts": 0,
    "log_lost": 1,
    "log_left_out": 2,
    "connections": 3,
    "connections_cut_off": 4,
    "subscribers": 5,
    "history_messages": 6,
    "history_bytes": 7,
    "clients_allowed": 8,
    "rejected": {"unknown_key": 9},
}
MODEL = {"name": "MERT", "backend": "onnx", "device": "cpu", "precision": "float32", "space": "ab", "trained": True}
EMBED = {"state": "recovering", "restarts": 3, "last_error": "died", "last_error_ns": 5_000_000_000}
EVIL = 'a"b\\c\n# TYPE x counter\r\x1b[2J\u2028'


class Clock:
    """Times that a test sets: monotonic seconds and Unix nanoseconds."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def wall_ns(self) -> int:
        return round(self.now_s * 1e9)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def observed(clock: Clock) -> Observed:
    return Observed([ENDPOINT], clock, clock.wall_ns)


def told(**changes: Any) -> Status:
    processes = {"supervisor": SUPERVISOR, "embed": EMBED}
    return status(**{"model": MODEL, "streams": {"room": STREAM}, "processes": processes, **changes})


def scrape(observed: Observed, memory: dict[str, int] | None = None) -> dict[tuple[str, ...], float]:
    """Every sample by its name and its labels but the usual daemon and endpoint. Both formats say the same, nothing twice."""
    registry = CollectorRegistry()
    registry.register(DaemonCollector(observed, lambda: memory or {}))
    found: list[dict[tuple[str, ...], float]] = []
    for text, parse in ((generate_latest, read), (generate_openmetrics, read_openmetrics)):
        samples: dict[tuple[str, ...], float] = {}
        for family in parse(text(registry).decode()):
            for sample in family.samples:
                key = (sample.name, *(value for value in sample.labels.values() if value not in (ENDPOINT, DAEMON)))
                assert key not in samples, f"{key} twice: Prometheus would refuse the whole scrape"
                samples[key] = sample.value
        found.append(samples)
    assert found[0] == found[1]
    return found[0]


def test_all_that_a_daemon_says(observed: Observed) -> None:
    observed.note(ENDPOINT, told())
    observed.note(
        ENDPOINT, embedding(1, time=Time(0, 95_000_000_000, 0, 0.0), latency_ns=Latency(1_000_000, 20_000_000, 22_000_000))
    )
    found = scrape(observed, {"mertd_memory_size_bytes": 10, "mertd_memory_free_bytes": 20})
    assert {
        ("mertd_up",): 1,
        ("mertd_last_status_timestamp_seconds",): 100,
        ("mertd_daemon_info", "0.1.0"): 1,
        ("mertd_daemon_phase", "running"): 1,
        ("mertd_model_trained",): 1,
        ("mertd_messages_published_total",): 4,
        ("mertd_rejected_handshakes_total", "unknown_key"): 9,
        ("mertd_rejected_handshakes_total", "no_key"): 0,
        ("mertd_subscribers",): 5,
        ("mertd_history_size_bytes",): 7,
        ("mertd_streams",): 1,
        ("mertd_streams_left_out",): 0,
        ("mertd_stream_windows_due_total", "room"): 9,
        ("mertd_stream_windows_embedded_total", "room"): 5,
        ("mertd_stream_windows_silent_total", "room"): 1,
        ("mertd_stream_windows_skipped_total", "late", "room"): 2,
        ("mertd_stream_windows_skipped_total", "overwritten", "room"): 0,
        ("mertd_stream_windows_skipped_total", "failed", "room"): 1,
        ("mertd_stream_captured_seconds_total", "room"): 10,
        ("mertd_stream_missing_seconds_total", "room"): 0.5,
        ("mertd_stream_state", "listening", "room"): 1,
        ("mertd_stream_rms_dbfs", "room"): -20.5,
        ("mertd_stream_peak_dbfs", "room"): -3.25,
        ("mertd_stream_latency_seconds", "room"): 0.022,
        ("mertd_stream_last_window_timestamp_seconds", "room"): 95,
        ("mertd_process_state", "embed", "recovering"): 1,
        ("mertd_process_restarts_total", "embed"): 3,
        ("mertd_process_last_error_timestamp_seconds", "embed"): 5,
        ("mertd_window_latency_seconds_count",): 1,
        ("mertd_window_stage_seconds_sum", "wait"): 0.001,
        ("mertd_window_stage_seconds_sum", "embed"): 0.02,
        ("mertd_window_stage_seconds_sum", "publish"): 0.001,
        ("mertd_window_latency_seconds_bucket", "0.025"): 1,
        ("mertd_window_latency_seconds_bucket", "0.01"): 0,
        ("mertd_memory_size_bytes",): 10,
    }.items() <= found.items()
    histograms = ("_bucket", "_sum", "_count")
    names = {next((name.removesuffix(end) for end in histograms if name.endswith(end)), name) for name, *_ in found}
    assert names == {*DEFINITIONS}, "each is exported, and nothing else"


def test_names_follow_the_conventions() -> None:
    units = ("_seconds", "_bytes", "_dbfs")
    for name, one in DEFINITIONS.items():
        assert name.startswith("mertd_")
        assert name.endswith("_total") == (one.kind is MetricKind.COUNTER)
        assert one.kind is not MetricKind.HISTOGRAM or name.endswith("_seconds")
        told_units = [unit for unit in units if unit in name]
        assert all(name.removesuffix("_total").endswith(unit) for unit in told_units), "a unit stands at the end"
        assert one.meaning.endswith(".")


def test_a_daemon_that_is_away_has_no_numbers(observed: Observed, clock: Clock) -> None:
    assert scrape(observed) == {("mertd_up",): 0}
    observed.note(ENDPOINT, told())
    observed.note(ENDPOINT, embedding())
    clock.now_s += STALE_S
    assert scrape(observed)[("mertd_up",)] == 1
    clock.now_s += 0.1
    memory = {"mertd_memory_size_bytes": 10}
    left = {("mertd_up",): 0, ("mertd_last_status_timestamp_seconds",): 100, ("mertd_memory_size_bytes",): 10}
    assert scrape(observed, memory) == left
    observed.note(ENDPOINT, told())
    assert scrape(observed)[("mertd_up",)] == 1


def test_counters_begin_anew_with_the_daemon_and_histograms_go_on(observed: Observed) -> None:
    observed.note(ENDPOINT, told())
    observed.note(ENDPOINT, embedding())
    observed.note(ENDPOINT, told(boot=bytes(16), streams={"room": {**STREAM, "due": 1, "embedded": 1}}))
    observed.note(ENDPOINT, embedding(boot=bytes(16)))
    found = scrape(observed)
    assert found[("mertd_stream_windows_due_total", "room")] == 1
    assert found[("mertd_window_latency_seconds_count",)] == 2


def test_a_level_does_not_outlive_the_sound(observed: Observed, clock: Clock) -> None:
    level = ("mertd_stream_rms_dbfs", "room")
    observed.note(ENDPOINT, told())
    observed.note(ENDPOINT, embedding(0))
    assert scrape(observed)[level] == -20.5
    observed.note(ENDPOINT, told(streams={"room": {**STREAM, "state": "lost"}}))
    assert level not in scrape(observed), "the source is gone"
    observed.note(ENDPOINT, told())
    observed.note(ENDPOINT, embedding(1))  # 5 s after the first: the next ones are expected as soon
    clock.now_s += 14.9
    observed.note(ENDPOINT, told())
    assert level in scrape(observed)
    clock.now_s += 0.2
    observed.note(ENDPOINT, told())
    found = scrape(observed)
    assert level not in found, "no window came, whatever the state says"
    assert found[("mertd_stream_last_window_timestamp_seconds", "room")] == 35
    assert clock.now_s < 100 + FIRST_FRESH_S


def test_a_silent_window_has_a_level_too(observed: Observed) -> None:
    observed.note(ENDPOINT, told())
    observed.note(ENDPOINT, embedding(0))
    detail = {"end": 840_000, "rms_dbfs": -90.0, "zeros": 0}
    observed.note(ENDPOINT, event(event="silent", index=120_000, time_ns=200_000_000_000, detail=detail))
    found = scrape(observed)
    assert found[("mertd_stream_rms_dbfs", "room")] == -90
    assert found[("mertd_stream_last_window_timestamp_seconds", "room")] == 230
    assert ("mertd_stream_peak_dbfs", "room") not in found, "that of another window"
    for strange in ({}, {"rms_dbfs": "loud", "end": 3}, {"rms_dbfs": -3.0, "end": "late"}):
        observed.note(ENDPOINT, event(event="silent", detail=strange))
    assert scrape(observed) == found


def test_what_a_history_holds_from_before_is_not_counted(observed: Observed) -> None:
    observed.note(ENDPOINT, told())
    observed.note(ENDPOINT, embedding(0, replay=True))
    assert ("mertd_stream_rms_dbfs", "room") not in scrape(observed)
    missed = Time(70_000_000_000, 101_000_000_000, 0, 0.0)
    observed.note(ENDPOINT, embedding(1, replay=True, time=missed))
    assert scrape(observed)[("mertd_window_latency_seconds_count",)] == 1


def test_streams_that_are_gone_leave_no_series(observed: Observed) -> None:
    observed.note(ENDPOINT, told(streams={"a": STREAM, "b": STREAM}))
    observed.note(ENDPOINT, embedding(0, "b"))
    observed.note(ENDPOINT, told(streams={"a": STREAM}))
    assert not [key for key in scrape(observed) if "b" in key]
    observed.note(ENDPOINT, told(streams={"a": STREAM, "b": STREAM}))
    assert ("mertd_stream_rms_dbfs", "b") not in scrape(observed), "that was another stream"


def test_no_daemon_fills_a_database(observed: Observed) -> None:
    observed.note(ENDPOINT, told(streams={f"s{number}": {"due": 1} for number in range(MAX_STREAMS + 5)}))
    for number in range(MAX_STREAMS + 5):
        observed.note(ENDPOINT, embedding(0, f"t{number}"))
    found = scrape(observed)
    assert len([key for key in found if key[0] == "mertd_stream_windows_due_total"]) == MAX_STREAMS
    assert (found[("mertd_streams",)], found[("mertd_streams_left_out",)]) == (MAX_STREAMS + 5, 5)
    assert len(observed.present()[DAEMON].windows) == MAX_STREAMS


def test_names_are_text(observed: Observed) -> None:
    same_when_shown = "\x1b[2J", "\\x1b[2J"
    observed.note(
        ENDPOINT, told(streams={EVIL: STREAM, **dict.fromkeys(same_when_shown, STREAM)}, daemon=EVIL, processes={EVIL: EMBED})
    )
    registry = CollectorRegistry()
    registry.register(DaemonCollector(observed))
    text = generate_latest(registry).decode()
    assert not {"\x1b", "\r", "\u2028"} & set(text)
    assert not [line for line in text.splitlines() if line.startswith("# TYPE x")]
    found = scrape(observed)
    states = [key for key in found if key[0] == "mertd_stream_state"]
    assert len(states) == 2
    assert all(printable(EVIL) == key[1] for key in states)
    assert found[("mertd_streams_left_out", printable(EVIL))] == 1, (
        "two streams that look alike would make Prometheus refuse everything"
    )


@pytest.mark.parametrize("value", [None, "9", True, math.nan, math.inf, [], {}])
def test_what_is_no_number_has_no_sample(observed: Observed, value: Any) -> None:
    strange = {**STREAM, "due": value, "samples": value, "skips": {"late": value}}
    observed.note(ENDPOINT, told(streams={"room": strange}, processes={"supervisor": {"subscribers": value}}))
    found = scrape(observed)
    assert ("mertd_stream_windows_due_total", "room") not in found
    assert ("mertd_stream_captured_seconds_total", "room") not in found
    assert ("mertd_subscribers",) not in found
    assert found[("mertd_stream_windows_embedded_total", "room")] == 5


VALUES = st.sampled_from([None, True, -1, 0, 2**64 - 1, 0.5, math.nan, -math.inf, "", "healthy", EVIL, b"a", [], [1], {}])
ENTRIES = st.dictionaries(st.text(max_size=5), VALUES | st.fixed_dictionaries({}, optional=dict.fromkeys(STREAM, VALUES)))
OWN = st.fixed_dictionaries({}, optional=dict.fromkeys([*SUPERVISOR, *EMBED], VALUES))
MODELS = st.fixed_dictionaries({}, optional=dict.fromkeys(MODEL, VALUES))


@given(ENTRIES, ENTRIES, OWN, MODELS, st.text(max_size=5))
def test_whatever_a_daemon_says_can_be_read(
    streams: dict[str, Any], processes: dict[str, Any], own: dict[str, Any], model: dict[str, Any], phase: str
) -> None:
    observed = Observed([ENDPOINT])
    observed.note(ENDPOINT, told(streams=streams, processes={**processes, "supervisor": own}, model=model, phase=phase))
    for name in streams:
        observed.note(ENDPOINT, embedding(0, name, audio=Audio(math.nan, math.inf, 0, 0, 0)))
    assert scrape(observed)[("mertd_up",)] == 1


@pytest.mark.parametrize("words", [StreamState, HealthState, Phase, SkipReason])
def test_words_are_those_of_the_wire(observed: Observed, words: type[Any]) -> None:
    """A state that is new on the wire is exported without a change here."""
    for word in words:
        skips = {word.value: 5} if words is SkipReason else {}
        stream = {**STREAM, "state": word.value, "skips": skips}
        phase = word.value if words is Phase else "running"
        observed.note(ENDPOINT, told(streams={"room": stream}, processes={"embed": {"state": word.value}}, phase=phase))
        found = scrape(observed)
        expected = {
            StreamState: ("mertd_stream_state", word.value, "room"),
            HealthState: ("mertd_process_state", "embed", word.value),
            Phase: ("mertd_daemon_phase", word.value),
            SkipReason: ("mertd_stream_windows_skipped_total", word.value, "room"),
        }
        assert expected[words] in found


def test_daemons_are_told_apart(observed: Observed, clock: Clock) -> None:
    observed.note(ENDPOINT, told())
    observed.note(ENDPOINT, told(daemon="attic", published=70))
    observed.note(ENDPOINT, embedding(daemon="attic"))
    observed.note(ENDPOINT, embedding(daemon="unheard of"))
    found = scrape(observed)
    assert (found[("mertd_messages_published_total",)], found[("mertd_messages_published_total", "attic")]) == (4, 70)
    assert (found[("mertd_window_latency_seconds_sum",)], found[("mertd_window_latency_seconds_count", "attic")]) == (0, 1)
    clock.now_s += STALE_S + 1
    observed.note(ENDPOINT, told())
    assert not [key for key in scrape(observed) if "attic" in key]
    for number in range(2 * MAX_DAEMONS):
        observed.note(ENDPOINT, told(daemon=f"d{number}"))
    assert len(observed.present()) == MAX_DAEMONS - 1, "the one that is away is not forgotten yet"
    clock.now_s += FORGET_S + 1
    observed.note(ENDPOINT, told(daemon="late"))
    assert [*observed.present()] == ["late"]


def test_an_endpoint_that_is_silent_is_named(clock: Clock) -> None:
    observed = Observed([ENDPOINT, "tcp://10.0.0.9:5590"], clock, clock.wall_ns)
    observed.note(ENDPOINT, told())
    found = scrape(observed)
    assert (found[("mertd_up",)], found[("mertd_up", "tcp://10.0.0.9:5590")]) == (1, 0)
