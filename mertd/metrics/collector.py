"""From what was received to metrics, at each scrape.

A status comes from another program, so nothing in it is taken for granted: a value that is missing or no number has no sample.

Rules of this file: no socket, no clock but that of `Observed`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mertd.defaults import SAMPLE_RATE
from mertd.metrics.definitions import DEFINITIONS, LATENCY_SECONDS, STAGE_SECONDS, MetricKind
from mertd.metrics.observed import MAX_STREAMS, DaemonRecord, LastWindow, Observed
from mertd.text import printable
from mertd.vocabulary import HealthState, Phase, SkipReason, StreamState
from mertd.wire import Status

MAX_LABEL = 200
"""Characters of a label's value."""

MAX_PROCESSES = MAX_STREAMS + 10
"""Processes that are exported: one for each stream, and a few others."""

REJECTIONS = ("unknown_key", "no_key", "wrong_server_key", "unfinished", "malformed")
"""Reasons for which the daemon lets a client not in. Others have no sample."""

PHASES = frozenset(phase.value for phase in Phase)
"""Phases that are exported."""

STREAM_STATES = frozenset(state.value for state in StreamState)
"""States of streams that are exported."""

STATES = STREAM_STATES | {state.value for state in HealthState}
"""States of processes that are exported: that of a capture process may be its stream's."""

CREATED = "_created"
"""End of the names of samples that say since when a histogram counts, which nobody asks for."""

OF_STREAM = (
    ("due", "mertd_stream_windows_due_total", 1.0),
    ("embedded", "mertd_stream_windows_embedded_total", 1.0),
    ("silent", "mertd_stream_windows_silent_total", 1.0),
    ("waiting", "mertd_stream_windows_waiting", 1.0),
    ("events", "mertd_stream_events_total", 1.0),
    ("samples", "mertd_stream_captured_seconds_total", 1.0 / SAMPLE_RATE),
    ("missing", "mertd_stream_missing_seconds_total", 1.0 / SAMPLE_RATE),
    ("restarts", "mertd_stream_restarts_total", 1.0),
)
"""Keys of a stream's status, what they become, and the factor of the unit."""

OF_SUPERVISOR = (
    ("subscribers", "mertd_subscribers"),
    ("connections", "mertd_connections"),
    ("connections_cut_off", "mertd_connections_cut_off_total"),
    ("clients_allowed", "mertd_clients_allowed"),
    ("history_messages", "mertd_history_messages"),
    ("history_bytes", "mertd_history_size_bytes"),
    ("log_lost", "mertd_log_lines_lost_total"),
    ("log_left_out", "mertd_log_lines_left_out_total"),
)
"""Keys of the status of the daemon's own process, and what they become."""


class Families:
    """The metrics of one scrape, in the order of their definitions."""

    def __init__(self) -> None:
        self._families: dict[str, Metric] = {}

    def add(self, name: str, value: object, *labels: str) -> None:
        """Add a sample; none if the value is no finite number, or a count below zero."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return
        definition = DEFINITIONS[name]
        is_counter = definition.kind is MetricKind.COUNTER
        if is_counter and value < 0:
            return
        family = self._families.get(name)
        if family is None:
            kind = CounterMetricFamily if is_counter else GaugeMetricFamily
            family = self._families[name] = kind(name, definition.meaning, labels=definition.labels)
        family.add_metric(labels, float(value))  # type: ignore[attr-defined]

    def add_histogram(self, name: str, daemon: str, histogram: Histogram) -> None:
        """Add what a histogram has counted of a daemon."""
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = Metric(name, DEFINITIONS[name].meaning, "histogram")
        for sample in (sample for metric in histogram.collect() for sample in metric.samples):
            if not sample.name.endswith(CREATED):
                family.add_sample(sample.name, {"daemon": daemon, **sample.labels}, sample.value)

    def __iter__(self) -> Iterator[Metric]:
        return (self._families[name] for name in DEFINITIONS if name in self._families)


class DaemonCollector(Collector):
    """The metrics of daemons, and of the memory on this machine."""

    def __init__(self, observed: Observed, memory: Callable[[], Mapping[str, int]] = dict) -> None:
        """`memory`: returns metrics of the memory by their names; nothing if there is none."""
        self._observed = observed
        self._memory = memory

    def describe(self) -> list[Metric]:
        """Return nothing: names are known, and to register this needs no scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield what is known now."""
        families = Families()
        for endpoint, last in {_label(endpoint): last for endpoint, last in self._observed.endpoints().items()}.items():
            families.add("mertd_up", int(last.is_fresh), endpoint)
            families.add("mertd_last_status_timestamp_seconds", last.at_s, endpoint)
        shown: set[str] = set()
        for name, record in self._observed.present().items():
            daemon = _label(name)
            if daemon not in shown:
                shown.add(daemon)
                self._add(families, daemon, record)
        for name, value in self._memory().items():
            families.add(name, value)
        yield from families

    def _add(self, families: Families, daemon: str, record: DaemonRecord) -> None:
        _add_daemon(families, daemon, record.status)
        _add_processes(families, daemon, record.status.processes)
        families.add_histogram(STAGE_SECONDS.name, daemon, record.stages)
        families.add_histogram(LATENCY_SECONDS.name, daemon, record.latencies)
        shown: set[str] = set()
        streams = record.status.streams
        for name, told in streams.items():
            label = _label(name)
            if len(shown) >= MAX_STREAMS or label in shown or not isinstance(told, Mapping):
                continue
            shown.add(label)
            _add_stream(families, daemon, label, told)
            window = record.windows.get(name)
            if window is not None:
                is_heard = told.get("state") == StreamState.LISTENING and self._observed.is_present(window)
                _add_window(families, daemon, label, window, is_heard)
        families.add("mertd_streams", len(streams), daemon)
        families.add("mertd_streams_left_out", len(streams) - len(shown), daemon)


def _add_daemon(families: Families, daemon: str, status: Status) -> None:
    families.add("mertd_daemon_info", 1, daemon, _label(status.version))
    if is_word(status.phase, PHASES):
        families.add("mertd_daemon_phase", 1, daemon, status.phase)
    families.add("mertd_daemon_start_time_seconds", (status.time_ns - status.uptime_ns) / 1e9, daemon)
    families.add("mertd_messages_published_total", status.published, daemon)
    families.add("mertd_subscriber_queue_overflows_total", status.dropped, daemon)
    model = status.model
    if model:
        words = (_label(model.get(key, "")) for key in ("name", "backend", "device", "precision", "space"))
        families.add("mertd_model_info", 1, daemon, *words)
        families.add("mertd_model_trained", int(model.get("trained") is True), daemon)
    own = status.processes.get("supervisor")
    if isinstance(own, Mapping):
        for key, name in OF_SUPERVISOR:
            families.add(name, own.get(key), daemon)
        if isinstance(rejected := own.get("rejected"), Mapping):
            for reason in REJECTIONS:
                families.add("mertd_rejected_handshakes_total", rejected.get(reason, 0), daemon, reason)


def _add_processes(families: Families, daemon: str, processes: Mapping[str, Any]) -> None:
    shown: set[str] = set()
    for name, told in processes.items():
        label = _label(name)
        if len(shown) >= MAX_PROCESSES or label in shown or not isinstance(told, Mapping):
            continue
        shown.add(label)
        if is_word(told.get("state"), STATES):
            families.add("mertd_process_state", 1, daemon, label, told["state"])
        families.add("mertd_process_restarts_total", told.get("restarts"), daemon, label)
        at_ns = told.get("last_error_ns")
        if isinstance(at_ns, int) and at_ns:
            families.add("mertd_process_last_error_timestamp_seconds", at_ns / 1e9, daemon, label)


def _add_stream(families: Families, daemon: str, stream: str, told: Mapping[str, Any]) -> None:
    for key, name, factor in OF_STREAM:
        value = told.get(key)
        families.add(name, value * factor if type(value) is int else value, daemon, stream)
    if isinstance(skips := told.get("skips"), Mapping):
        for reason in SkipReason:
            families.add("mertd_stream_windows_skipped_total", skips.get(reason.value, 0), daemon, stream, reason.value)
    if is_word(told.get("state"), STREAM_STATES):
        families.add("mertd_stream_state", 1, daemon, stream, told["state"])


def _add_window(families: Families, daemon: str, stream: str, window: LastWindow, is_heard: bool) -> None:
    families.add("mertd_stream_last_window_timestamp_seconds", window.end_ns / 1e9, daemon, stream)
    if is_heard:
        families.add("mertd_stream_rms_dbfs", window.rms_dbfs, daemon, stream)
        families.add("mertd_stream_peak_dbfs", window.peak_dbfs, daemon, stream)
        families.add("mertd_stream_latency_seconds", window.latency_s, daemon, stream)


def is_word(value: object, words: frozenset[str]) -> bool:
    """Return whether a value is one of the words."""
    return isinstance(value, str) and value in words


def _label(value: object) -> str:
    return printable(value, MAX_LABEL)
