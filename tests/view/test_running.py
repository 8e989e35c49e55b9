"""The page of a running daemon, as real processes: from a window to a browser, and the end of all of them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from command_process import PATIENCE_S, STOP_S, Traces, running, wait_until
from daemon_process import SHORT, TINY, Daemon

pytestmark = pytest.mark.slow
VIEW = [sys.executable, "-P", "-m", "mertd", "view"]


def told(client: httpx2.Client, url: str) -> Iterator[tuple[str, Any]]:
    """What the server tells a browser: (kind, content)."""
    with client.stream("GET", f"{url}live") as answer:
        kind = ""
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                yield kind, json.loads(value)


def until_a_window(client: httpx2.Client, url: str, after: int = -1) -> int:
    """Wait for the card of a stream with a window behind a number, and return its number."""
    for _, content in told(client, url):
        for card in content.get("streams", []):
            if card["window"] is not None and card["window"]["seq"] > after:
                return int(card["window"]["seq"])
    raise AssertionError("the stream of events has ended")


def test_a_daemon_serves_its_page(tmp_path: Path) -> None:
    source = ["--source", "synth:chords", "--view", "--view-address", "127.0.0.1:0", "--remember", "--memory", tmp_path]
    with Daemon(*TINY, *SHORT, "--backend", "numpy", *source) as daemon, httpx2.Client(timeout=PATIENCE_S) as client:
        url = daemon.said(r"the page is at (\S+)\n")[1]
        assert "<title>mertd</title>" in client.get(url).text
        seq = until_a_window(client, url)
        assert until_a_window(client, url, seq + 2) > seq
        remembered: list[Any] = []

        def is_remembered() -> bool:
            remembered[:] = client.get(f"{url}remembered").json().get("streams", [])
            return bool(remembered)

        wait_until(is_remembered, PATIENCE_S, lambda: "nothing is remembered")
        first_ms = remembered[0]["first_ms"]
        asked = {"key": remembered[0]["key"], "since": first_ms - 1, "until": first_ms + 60_000, "midnight": first_ms}
        assert client.get(f"{url}span", params=asked).json()["windows"] > 0
        page = daemon.until(lambda s: s.processes["view"]["pid"] != 0).processes["view"]["pid"]
        os.kill(page, signal.SIGKILL)  # the daemon goes on, and starts another one
        daemon.until(lambda s: s.processes["view"]["restarts"] == 1)
        assert daemon.status().phase == "running"


def test_it_stops_while_browsers_are_connected() -> None:
    traces = Traces()
    words = [*VIEW, "--bind", "127.0.0.1:0", "--connect", f"ipc://{traces.folder}/nobody"]
    try:
        with running(words, stdout=subprocess.PIPE, env=traces.environment, text=True) as view:
            assert view.stdout is not None
            url = view.stdout.readline().split()[-1]
            with httpx2.Client(timeout=PATIENCE_S) as client:
                events = told(client, url)
                kind, content = next(events)
                assert (kind, content["streams"]) == ("snapshot", [])
                view.send_signal(signal.SIGTERM)
                assert view.wait(STOP_S) == 0
                assert not list(events), "its end is told to the browser at once"
    finally:
        traces.remove()


def test_an_address_in_use_is_told_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run([*VIEW, "--bind", address], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith("mertd: the page cannot be served")
    assert "choose another one" in line


def test_another_machine_is_given_a_token() -> None:
    traces = Traces()
    words = [*VIEW, "--bind", "0.0.0.0:0", "--connect", f"ipc://{traces.folder}/nobody"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    try:
        with running(words, **pipes, env=traces.environment, text=True) as view:
            assert view.stdout is not None
            assert view.stderr is not None
            url = httpx2.URL(view.stdout.readline().split()[-1])
            assert len(url.params["token"]) > 40
            here = f"http://127.0.0.1:{url.port}/"
            with httpx2.Client(timeout=PATIENCE_S, follow_redirects=True) as client:
                assert client.get(here).status_code == 401
                assert "<title>mertd</title>" in client.get(here, params={"token": url.params["token"]}).text
                assert client.get(here).status_code == 200
            view.send_signal(signal.SIGINT)
            assert view.wait(STOP_S) == 0
            assert "TLS" in view.stderr.read()
    finally:
        traces.remove()
