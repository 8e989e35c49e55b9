"""Daemon and client are killed and stopped again and again; the client has all that the daemon's memory has, once and in order.

Run: PYTHONPATH=tests python tests/soak/restarts.py [--rounds 20]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from command_process import PATIENCE_S, wait_until
from daemon_process import TINY
from memory.kills import SELECTION
from mertd.errors import StoreError
from mertd.memory.memory import Memory
from soak.away import CLIENT

OPTIONS = ["--name", "studio", "--source", "synth:chords?name=room", *TINY, "--window", "1", "--hop", "0.25"]

LONGEST_LIFE_S = 6.0
"""Seconds for which both run at most between two faults."""

LONGEST_REST_S = 1.5
"""Seconds after which what was killed is started again, at most."""

FAULTS = ("client", "daemon", "both", "daemon while the client is stopped")

Place = tuple[str, str, int]
"""Kind, run, and number of a message."""


class Stage:
    """A daemon with its memory, and a client with its cursor, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sockets = folder / "run"
        self._sockets.mkdir(mode=0o700)
        self._ends = [f"ipc://{self._sockets}/{name}" for name in ("p", "c")]
        self._log = (folder / "log").open("wb")
        self._out = folder / "out"
        self._out.touch()
        self.daemon: subprocess.Popen[bytes] | None = None
        self.client: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start what does not run."""
        publish, control = self._ends
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(self._sockets)}
        start = partial(subprocess.Popen[bytes], stderr=self._log, env=environment, start_new_session=True)
        if self.daemon is None:
            ends = ["--bind", publish, "--control", control, "--remember", "--memory", str(self._folder / "memory")]
            self.daemon = start([sys.executable, "-m", "mertd", "run", *OPTIONS, *ends])
        if self.client is None:
            words = [publish, control, str(self._folder / "cursor"), str(self._out)]
            self.client = start([sys.executable, "-c", CLIENT, *words])

    def kill(self, *, daemon: bool, client: bool) -> None:
        if daemon and self.daemon is not None:
            os.killpg(self.daemon.pid, signal.SIGKILL)
            self.daemon.wait()
            self.daemon = None
        if client and self.client is not None:
            self.client.kill()
            self.client.wait()
            self.client = None

    def close(self) -> None:
        self.kill(daemon=True, client=True)
        self._log.close()

    @property
    def said(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-3_000:]

    @property
    def received(self) -> list[Place]:
        """What the client has had, in order."""
        lines = [line.split() for line in self._out.read_text().splitlines()]
        return [(kind, boot, int(seq)) for kind, boot, seq in lines]

    @property
    def remembered(self) -> list[Place]:
        """What the memory has, kind by kind."""
        try:
            memory = Memory(self._folder / "memory")
            kinds = [[*memory.messages((kind,), SELECTION)] for kind in ("embedding", "event")]
        except StoreError:  # nothing is there yet
            return []
        return [(message.kind, message.boot.hex(), message.seq) for messages in kinds for message in messages]


def run(folder: Path, rounds: int, chance: random.Random) -> str:
    """Fails if the client lacks a message that is remembered, or has one out of order."""
    with ExitStack() as opened:
        stage = Stage(folder)
        opened.callback(stage.close)
        stage.start()
        wait_until(lambda: len(stage.received) > 0, PATIENCE_S, lambda: f"the client has nothing: {stage.said}")
        for _ in range(rounds):
            time.sleep(chance.random() * LONGEST_LIFE_S)
            fault = chance.choice(FAULTS)
            stopped = stage.client if fault == FAULTS[3] else None
            if stopped is not None:
                stopped.send_signal(signal.SIGSTOP)
            stage.kill(daemon=fault != "client", client=fault in ("client", "both"))
            time.sleep(chance.random() * LONGEST_REST_S)
            stage.start()
            if stopped is not None:
                time.sleep(chance.random() * LONGEST_LIFE_S)
                stopped.send_signal(signal.SIGCONT)
        at_last = set(wait_for_new_run(stage))
        wait_until(lambda: at_last <= set(stage.received), PATIENCE_S, lambda: f"missing: {at_last - set(stage.received)}")
        stage.kill(daemon=True, client=True)
        return check(stage)


def wait_for_new_run(stage: Stage) -> list[Place]:
    """Start the daemon once more, and return what is remembered when it remembers something of this run."""
    stage.kill(daemon=True, client=False)
    boots = {boot for _, boot, _ in stage.remembered}
    stage.start()
    wait_until(lambda: {boot for _, boot, _ in stage.remembered} > boots, PATIENCE_S, lambda: f"no new run: {stage.said}")
    return [place for place in stage.remembered if place not in before_the_client(stage)]


def before_the_client(stage: Stage) -> set[Place]:
    """Return what is remembered of the first run from before the client came."""
    received = stage.received
    firsts = {kind: next((p for p in received if p[0] == kind), None) for kind in ("embedding", "event")}
    boot = received[0][1]
    return {
        (kind, run_, seq)
        for kind, run_, seq in stage.remembered
        if run_ == boot and ((first := firsts[kind]) is None or first[1] != boot or seq < first[2])
    }


def check(stage: Stage) -> str:
    received = stage.received
    once = list(dict.fromkeys(received))
    for kind in ("embedding", "event"):
        came = [place for place in once if place[0] == kind]
        runs = list(dict.fromkeys(boot for _, boot, _ in came))
        assert came == sorted(came, key=lambda place: (runs.index(place[1]), place[2])), f"{kind}s are out of order"
        stored = list(dict.fromkeys(boot for k, boot, _ in stage.remembered if k == kind))
        assert [boot for boot in runs if boot in stored] == [boot for boot in stored if boot in runs], "runs are out of order"
    return f"{len(once)} messages of {len({p[1] for p in once})} runs in order; {len(received) - len(once)} came again"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="mertd-") as folder:
        print(run(Path(folder), given.rounds, random.Random(given.seed)))


if __name__ == "__main__":
    main()
