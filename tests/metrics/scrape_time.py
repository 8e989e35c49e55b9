"""How long a scrape takes: `PYTHONPATH=tests python tests/metrics/scrape_time.py [STREAMS]`, for docs/benchmarks.md."""

from __future__ import annotations

import statistics
import sys
import time

from starlette.applications import Starlette
from starlette.testclient import TestClient

from mertd.metrics.metrics_routes import metrics_routes
from mertd.metrics.observed import Observed
from mertd.view.http_server import keep_what_is_loaded
from messages import embedding, status

ENDPOINT = "tcp://127.0.0.1:5590"
SCRAPES = 50
OWN = {"log_lost": 0, "log_left_out": 0, "connections": 3, "connections_cut_off": 0, "subscribers": 2, "history_bytes": 1}
STREAM = dict.fromkeys(("restarts", "samples", "missing", "due", "embedded", "silent", "skipped", "waiting", "events"), 3)


def busy(streams: int) -> Observed:
    """What was received of a daemon with so many streams."""
    observed = Observed([ENDPOINT])
    names = [f"room-{number}" for number in range(streams)]
    told = {**STREAM, "state": "listening", "skips": {"late": 3}}
    captures = {f"capture-{name}": {"state": "healthy", "restarts": 0, "last_error_ns": 5} for name in names}
    observed.note(ENDPOINT, status(streams=dict.fromkeys(names, told), processes={"supervisor": OWN, **captures}))
    for name in names:
        observed.note(ENDPOINT, embedding(0, name))
    return observed


def scrape_times(streams: int, scrapes: int = SCRAPES) -> tuple[list[float], int]:
    """Return CPU seconds of each scrape, from the request to the whole answer and the client's part too, and bytes of one."""
    asked = TestClient(Starlette(routes=metrics_routes(busy(streams))))
    size = len(asked.get("/metrics").content)
    times = []
    for _ in range(scrapes):
        began = time.process_time()
        asked.get("/metrics")
        times.append(time.process_time() - began)
    return times, size


def main() -> None:
    streams = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    keep_what_is_loaded()  # as the server does when it has started
    times, size = scrape_times(streams)
    median, worst = statistics.median(times) * 1e3, max(times) * 1e3
    print(f"{streams} streams: {size / 1e3:.0f} kB, CPU median {median:.1f} ms, worst of {len(times)}: {worst:.1f} ms")


if __name__ == "__main__":
    main()
