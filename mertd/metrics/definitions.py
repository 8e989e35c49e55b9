"""All metrics: name, kind, labels and meaning. docs/metrics.md shows this table.

Names follow the conventions of Prometheus: base units (seconds, bytes) at the end of the name, `_total` for counters. Levels
are in dBFS, as everywhere in mertd. Labels have few values: names of streams and processes, and words of `mertd.vocabulary`.

Rules of this file: no I/O, and nothing of the library.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class MetricKind(StrEnum):
    """What Prometheus calls the type of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Definition:
    """One metric. `labels`: names of its labels, in the order in which values are given."""

    name: str
    kind: MetricKind
    meaning: str
    labels: tuple[str, ...] = ()


def _counter(name: str, labels: str, meaning: str) -> Definition:
    return Definition(name, MetricKind.COUNTER, meaning, tuple(labels.split()))


def _gauge(name: str, labels: str, meaning: str) -> Definition:
    return Definition(name, MetricKind.GAUGE, meaning, tuple(labels.split()))


def _histogram(name: str, labels: str, meaning: str) -> Definition:
    return Definition(name, MetricKind.HISTOGRAM, meaning, tuple(labels.split()))


OF_ENDPOINTS = (
    _gauge("mertd_up", "endpoint", "1 if a status came in the last 10 s. If not, nothing else of the daemon is exported."),
    _gauge("mertd_last_status_timestamp_seconds", "endpoint", "When the last status came, in Unix time."),
)
"""Metrics of each endpoint to which `mertd view` connects, whether something answers there or not."""

OF_DAEMON = (
    _gauge("mertd_daemon_info", "daemon version", "Always 1; the labels name the daemon and its version."),
    _gauge("mertd_daemon_phase", "daemon phase", "1 for the present phase; others have no sample."),
    _gauge("mertd_daemon_start_time_seconds", "daemon", "When the daemon started, in Unix time."),
    _gauge("mertd_model_info", "daemon name backend device precision space", "Always 1; the labels describe the model."),
    _gauge("mertd_model_trained", "daemon", "0 if the weights are random, so that the vectors mean nothing."),
    _counter("mertd_messages_published_total", "daemon", "Messages that were sent."),
    _counter("mertd_subscriber_queue_overflows_total", "daemon", "How often the queue of a slow subscriber ran full."),
    _gauge("mertd_subscribers", "daemon", "Connections that have subscribed to something."),
    _gauge("mertd_connections", "daemon", "Open connections of clients."),
    _counter("mertd_connections_cut_off_total", "daemon", "Connections cut off: beyond a limit, or of a revoked key."),
    _counter("mertd_rejected_handshakes_total", "daemon reason", "Clients that were not let in with --curve, by reason."),
    _gauge("mertd_clients_allowed", "daemon", "Keys that may connect, with --curve."),
    _gauge("mertd_history_messages", "daemon", "Messages that the daemon's history holds."),
    _gauge("mertd_history_size_bytes", "daemon", "What they take in the daemon's memory."),
    _counter("mertd_log_lines_lost_total", "daemon", "Lines of the log that could not be written."),
    _counter("mertd_log_lines_left_out_total", "daemon", "Lines of the log that were left out as repetitions."),
    _gauge("mertd_streams", "daemon", "Streams of the daemon."),
    _gauge("mertd_streams_left_out", "daemon", "Streams not exported: beyond 1,000, or of names that look alike."),
)
"""Metrics of a daemon as a whole."""

OF_STREAMS = (
    _counter("mertd_stream_windows_due_total", "daemon stream", "Windows that became due."),
    _counter("mertd_stream_windows_embedded_total", "daemon stream", "Windows that were embedded and published."),
    _counter("mertd_stream_windows_silent_total", "daemon stream", "Windows below the gate, which are not embedded."),
    _counter("mertd_stream_windows_skipped_total", "daemon stream reason", "Windows that were not embedded, by reason."),
    _gauge("mertd_stream_windows_waiting", "daemon stream", "Windows due of which is not yet decided what becomes of them."),
    _counter("mertd_stream_events_total", "daemon stream", "Events that were published."),
    _counter("mertd_stream_captured_seconds_total", "daemon stream", "Seconds of audio that were captured."),
    _counter("mertd_stream_missing_seconds_total", "daemon stream", "Seconds of audio that were lost on the way in."),
    _counter("mertd_stream_restarts_total", "daemon stream", "How often the source was opened again after a loss."),
    _gauge("mertd_stream_state", "daemon stream state", "1 for the present state; others have no sample."),
    _gauge("mertd_stream_rms_dbfs", "daemon stream", "Level of the last window; no sample if not heard."),
    _gauge("mertd_stream_peak_dbfs", "daemon stream", "Peak of the last embedded window; no sample if not heard."),
    _gauge("mertd_stream_latency_seconds", "daemon stream", "Latency of the last window; no sample if not heard."),
    _gauge(
        "mertd_stream_last_window_timestamp_seconds",
        "daemon stream",
        "When the last window ended, in Unix time.",
    ),
)
"""Metrics with a sample, or a few, for each stream."""

OF_PROCESSES = (
    _gauge("mertd_process_state", "daemon process state", "1 for the present state; others have no sample."),
    _counter("mertd_process_restarts_total", "daemon process", "How often the process was started again."),
    _gauge("mertd_process_last_error_timestamp_seconds", "daemon process", "When it last failed; no sample if never."),
)
"""Metrics of each process of a daemon."""

STAGE_SECONDS = _histogram(
    "mertd_window_stage_seconds",
    "daemon stage",
    "Seconds that embedded windows spent in each stage: `wait` for the model, `embed` in it, `publish` afterwards.",
)
LATENCY_SECONDS = _histogram(
    "mertd_window_latency_seconds",
    "daemon",
    "Seconds from the report of a window's last sample to its publication: all stages together.",
)
OF_WINDOWS = (STAGE_SECONDS, LATENCY_SECONDS)
"""Histograms over the windows of all streams."""

OF_MEMORY = (
    _gauge("mertd_memory_size_bytes", "", "Size of the files of the memory."),
    _gauge("mertd_memory_free_bytes", "", "Free space on the file system of the memory."),
)
"""Metrics of the memory on this machine, if there is one. They do not depend on a daemon."""

DEFINITIONS = {one.name: one for one in (*OF_ENDPOINTS, *OF_DAEMON, *OF_STREAMS, *OF_PROCESSES, *OF_WINDOWS, *OF_MEMORY)}
"""All of them, by name, in the order in which they are exported."""
