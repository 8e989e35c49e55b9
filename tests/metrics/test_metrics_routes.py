"""`/metrics`, `/healthz` and `/readyz`, as a server gives them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from daemon_process import SHORT, TINY, Daemon
from memory.test_forgetting import fill
from mertd.metrics.metrics_routes import metrics_routes
from mertd.metrics.observed import Observed
from mertd.stream.client.subscriber import Subscriber
from mertd.wire import Event
from messages import embedding, status
from metrics.test_collector import ENDPOINT, SUPERVISOR, told

NEEDS_PROMTOOL = pytest.mark.skipif(
    shutil.which("promtool") is None and not os.environ.get("CI"), reason="promtool is not installed"
)
KINDS = ("embedding", "event", "status")


def client(observed: Observed, memory: Path | None = None) -> TestClient:
    return TestClient(Starlette(routes=metrics_routes(observed, memory)))


@pytest.fixture
def observed() -> Observed:
    return Observed([ENDPOINT])


def test_formats_and_headers(observed: Observed) -> None:
    observed.note(ENDPOINT, told())
    asked = client(observed)
    text = asked.get("/metrics")
    assert (text.status_code, text.headers["cache-control"]) == (200, "no-store")
    assert text.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert f'\nmertd_up{{endpoint="{ENDPOINT}"}} 1.0\n' in text.text
    assert "\nprocess_cpu_seconds_total " in text.text, "of the process that serves it"
    newer = asked.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert newer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert newer.text.endswith("# EOF\n")
    assert asked.head("/metrics").status_code == 200
    assert asked.post("/metrics").status_code == 405


def test_alive_and_ready(observed: Observed) -> None:
    asked = client(observed)
    assert (asked.get("/healthz").status_code, asked.get("/readyz").status_code) == (200, 503)
    assert asked.get("/readyz").text == "no status from tcp://127.0.0.1:5590 in the last 10 s; is the daemon running?\n"
    for phase, code, text in (
        ("starting", 503, "studio is starting\n"),
        ("running", 200, "ok\n"),
        ("replaying", 200, "ok\n"),
        ("stopping", 503, "studio is stopping\n"),
        ("\x1b[2J", 503, "studio is in an unknown phase\n"),
    ):
        observed.note(ENDPOINT, told(phase=phase))
        ready = asked.get("/readyz")
        assert (ready.status_code, ready.text) == (code, text)


def test_the_memory_is_measured(observed: Observed, tmp_path: Path) -> None:
    assert "mertd_memory" not in client(observed, tmp_path / "none").get("/metrics").text
    fill(tmp_path / "memory", 5).close()
    size = sum(path.stat().st_size for path in (tmp_path / "memory").glob("[0-9]*"))
    text = client(observed, tmp_path / "memory").get("/metrics").text
    assert f"\nmertd_memory_size_bytes {float(size)}\n" in text
    assert "\nmertd_memory_free_bytes " in text
    assert f'mertd_up{{endpoint="{ENDPOINT}"}} 0.0' in text


@pytest.fixture(scope="module")
def scrape_of_a_daemon() -> Iterator[str]:
    """What a live daemon's scrape is, once it has embedded something."""
    with Daemon(*TINY, *SHORT, "--source", "synth:chords", "--source", "synth:silence") as daemon:
        observed = Observed([ENDPOINT])
        with Subscriber(daemon.publish, (), KINDS, control=daemon.control) as subscriber:
            seen: set[object] = set()
            while not seen >= {"embedding", "silent", "status"}:
                received = subscriber.receive(60)
                assert received is not None
                observed.note(ENDPOINT, received.message)
                message = received.message
                seen.add(message.event if isinstance(message, Event) else message.kind)
        yield client(observed).get("/metrics").text


@pytest.mark.slow
@NEEDS_PROMTOOL
def test_promtool_has_nothing_to_say_about_a_live_daemon(scrape_of_a_daemon: str) -> None:
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=scrape_of_a_daemon, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.slow
def test_a_live_daemon_says_all(scrape_of_a_daemon: str) -> None:
    anonymous = re.sub(r'daemon="[0-9a-f]{8}",?', "", scrape_of_a_daemon).replace("{}", "")
    for start in (
        'mertd_stream_windows_skipped_total{reason="late",stream="chords"} ',
        'mertd_stream_rms_dbfs{stream="silence"} ',
        'mertd_stream_peak_dbfs{stream="chords"} ',
        "mertd_subscribers 1.0",
        "mertd_history_size_bytes ",
        'mertd_process_state{process="capture-chords",state="healthy"} 1.0',
        'mertd_window_stage_seconds_bucket{le="0.005",stage="publish"} ',
    ):
        assert f"\n{start}" in anonymous


def busy(streams: int) -> Observed:
    """What was received of a daemon with so many streams."""
    observed = Observed([ENDPOINT])
    names = [f"room-{number}" for number in range(streams)]
    stream = told().streams["room"]
    captures = {f"capture-{name}": {"state": "healthy", "restarts": 0, "last_error_ns": 5} for name in names}
    observed.note(ENDPOINT, status(streams=dict.fromkeys(names, stream), processes={"supervisor": SUPERVISOR, **captures}))
    for name in names:
        observed.note(ENDPOINT, embedding(0, name))
    return observed


@pytest.mark.slow
def test_a_scrape_of_200_streams_takes_a_fraction_of_a_second() -> None:
    """The bar is 50 ms (docs/benchmarks.md); here the cost of a stream must not grow with their number."""
    took = {}
    for streams in (20, 200):
        asked = client(busy(streams))
        asked.get("/metrics")
        times = []
        for _ in range(10):
            began = time.perf_counter()
            asked.get("/metrics")
            times.append(time.perf_counter() - began)
        took[streams] = min(times)
    assert took[200] < 15 * took[20], took
