"""`/metrics`, `/healthz` and `/readyz`, as a server gives them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from command_process import PATIENCE_S, Traces, running, wait_until
from daemon_process import SHORT, TINY, Daemon
from memory.test_forgetting import fill
from mertd.metrics.metrics_routes import metrics_routes
from mertd.metrics.observed import Observed
from metrics.scrape_time import scrape_times
from metrics.test_collector import ENDPOINT, told

NEEDS_PROMTOOL = pytest.mark.skipif(
    shutil.which("promtool") is None and not os.environ.get("CI"), reason="promtool is not installed"
)


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
    if sys.platform == "linux":
        assert "\nprocess_cpu_seconds_total " in text.text, "of the process that serves it"
    newer = asked.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert newer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert newer.text.endswith("# EOF\n")
    for odd in ("application/openmetrics-text; version=abc", "text/plain; version=1.x", ";;,", "*/*", "a" * 10_000):
        answer = asked.get("/metrics", headers={"Accept": odd})
        assert (answer.status_code, answer.headers["content-type"]) == (200, text.headers["content-type"])
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


def text_of(client: httpx2.Client, url: str, has: str) -> str:
    """What is scraped, once it has something."""
    found = ""

    def is_there() -> bool:
        nonlocal found
        found = client.get(f"{url}metrics").text
        return has in found

    wait_until(is_there, PATIENCE_S, lambda: found)
    return found


@pytest.mark.slow
@NEEDS_PROMTOOL
def test_a_live_daemon_and_its_absence() -> None:
    traces = Traces()
    words = [sys.executable, "-P", "-m", "mertd", "view", "--bind", "127.0.0.1:0"]
    sources = ["--source", "synth:chords", "--source", "synth:silence"]
    try:
        with Daemon(*TINY, *SHORT, *sources) as daemon, httpx2.Client(timeout=PATIENCE_S) as asked:
            daemon.bound()
            words += ["--connect", daemon.publish, "--control", daemon.control]
            with running(words, stdout=subprocess.PIPE, env=traces.environment, text=True) as view:
                assert view.stdout is not None
                url = view.stdout.readline().split()[-1]
                assert asked.get(f"{url}healthz").status_code == 200
                text_of(asked, url, f'mertd_up{{endpoint="{daemon.publish}"}} 1.0')
                daemon.until(lambda s: s.streams["chords"]["embedded"] > 0 and s.streams["silence"]["silent"] > 0)
                text_of(asked, url, 'stream="chords"} -')
                text_of(asked, url, 'phase="running"} 1.0')
                text = text_of(asked, url, 'stream="silence"} -')
                assert asked.get(f"{url}readyz").status_code == 200
                assert promtool(text) == (0, "", "")
                anonymous = re.sub(r'daemon="[0-9a-f]{8}",?', "", text).replace("{}", "")
                for start in (
                    'mertd_stream_windows_skipped_total{reason="late",stream="chords"} ',
                    'mertd_stream_rms_dbfs{stream="silence"} -200.0',
                    'mertd_stream_peak_dbfs{stream="chords"} ',
                    "mertd_subscribers ",
                    "mertd_history_size_bytes ",
                    'mertd_process_state{process="capture-chords",state="healthy"} 1.0',
                    'mertd_window_stage_seconds_bucket{le="0.005",stage="publish"} ',
                ):
                    assert f"\n{start}" in anonymous, text
                daemon.stop()
                text = text_of(asked, url, f'mertd_up{{endpoint="{daemon.publish}"}} 0.0')
                assert {line.split("{")[0] for line in text.splitlines() if line.startswith("mertd_")} == {
                    "mertd_up",
                    "mertd_last_status_timestamp_seconds",
                }
                assert promtool(text) == (0, "", "")
                assert asked.get(f"{url}readyz").status_code == 503
                view.terminate()
                assert view.wait(PATIENCE_S) == 0
    finally:
        traces.remove()


def promtool(text: str) -> tuple[int, str, str]:
    """What Prometheus' own tool says of metrics."""
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_the_cost_of_a_stream_does_not_grow_with_their_number() -> None:
    """The bar for 200 streams is 50 ms; docs/benchmarks.md has the figure."""
    took = {streams: min(scrape_times(streams, 10)[0]) for streams in (20, 200)}
    assert took[200] < 15 * took[20], took
