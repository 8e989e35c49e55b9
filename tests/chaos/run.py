"""Five minutes of faults, every few seconds one or two, on a live daemon, with a client that checks every message.

Run: PYTHONPATH=tests python tests/chaos/run.py [--seconds 300] [--seed N]

Fails, and says how to repeat it, if a message breaks one of the laws (`laws.py`), if a fault is not recovered from within
`BAR_S` after what was taken away is back, or if anything is left behind. Recovered: every stream that was hit has published the
vector of a window that was heard afterwards, which includes the second that its window takes. Stalls of the machine, as a
thread that wants to sleep for 20 ms sees them, are added to the bar, and shown. Faults do not strike a process again before it
has lasted: those that die again sooner are made to wait, on purpose.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from chaos import onlooker
from chaos.faults import OVERLOAD, SOURCES_AND_MODEL, Fault, Struck
from chaos.stage import Holding, Stage

BAR_S = 5.0
"""Seconds in which a stream must have recovered, on a machine that does nothing else."""

GIVE_UP_S = 30.0
"""Seconds without recovery after which the run ends."""

EVERY_S = 240.0
"""Seconds in which every fault strikes at least once."""

BOTH = 0.3
"""Probability of two faults at once."""


@dataclass(frozen=True)
class Recovery:
    """From one fault: seconds it took, and seconds of it in which the machine stood still."""

    fault: str
    seconds: float
    stalled: float

    def in_time(self, bar_s: float) -> bool:
        return self.seconds <= bar_s + self.stalled


class Chaos:
    """One run. `violations`: in sentences."""

    def __init__(self, stage: Stage, seconds: float, seed: int, bar_s: float = BAR_S) -> None:
        self._stage, self._seconds, self._seed = stage, seconds, seed
        self._bar_s = bar_s
        self.began = time.monotonic()
        self._free: defaultdict[str, float] = defaultdict(float)  # of targets: when they may be struck again
        self._stop = threading.Event()
        self.struck: Counter[str] = Counter()
        self.recoveries: list[Recovery] = []
        self.violations: list[str] = []
        self._told = 0

    def run(self) -> None:
        """Until the time is over."""
        until = time.monotonic() + self._seconds
        with ThreadPoolExecutor(3) as pool:
            overload = pool.submit(self._overload, until)
            try:
                step = 0
                while time.monotonic() < until and not self._stop.is_set():
                    chance = random.Random(f"{self._seed} {step}")
                    chosen = self._choose(chance)
                    strikes = [
                        pool.submit(self._strike, fault, random.Random(f"{self._seed} {step} {fault.name}"), silenced(chosen))
                        for fault in chosen
                    ]
                    for strike in strikes:
                        strike.result()
                    time.sleep(chance.uniform(0.2, 1.5))
                    step += 1
            finally:
                self._stop.set()
            overload.result()

    def _choose(self, chance: random.Random) -> list[Fault]:
        """One that has struck least, and perhaps another one elsewhere."""
        now = time.monotonic()
        free = [fault for fault in SOURCES_AND_MODEL if not fault.kills or self._free[fault.target] <= now]
        order = sorted(free, key=lambda fault: (self.struck[fault.name], chance.random()))
        if not order or order[0].target == "machine" or chance.random() > BOTH:
            return order[:1]
        elsewhere = [fault for fault in order if fault.target not in ("machine", order[0].target)]
        return [order[0], *elsewhere[:1]]

    def _strike(self, fault: Fault, chance: random.Random, silenced: set[str]) -> None:
        """`silenced`: streams of which only a fault of their own can say when they are back."""
        self.struck[fault.name] += 1
        try:
            what = fault.strike(self._stage, chance)
            own = fault.target.startswith("capture-")
            recovery = self._recovery(fault, what, [s for s in what.streams if own or s not in silenced])
        except Exception:  # noqa: BLE001 - whatever it is, the run is over and must say so
            self._violated(f"{fault.name}: {traceback.format_exc()}")
            self._stop.set()
            return
        self._free[fault.target] = max(self._free[fault.target], time.monotonic() + fault.rest_s)
        self.recoveries.append(recovery)
        note = f", the machine stood still for {recovery.stalled:.2f} s of it" if recovery.stalled else ""
        self._say(f"{fault.name}: {recovery.seconds:.2f} s{note}")
        if not recovery.in_time(self._bar_s):
            self._violated(
                f"{fault.name}: back after {recovery.seconds:.2f} s, of which {recovery.stalled:.2f} s are the machine's"
            )

    def _recovery(self, fault: Fault, what: Struck, streams: list[str]) -> Recovery:
        client, pacemaker = self._stage.client, self._stage.pacemaker

        def back(stream: str) -> bool:
            message = client.latest[stream]
            epoch = what.ended.get(stream, -1)
            return message.epoch > epoch and message.time.end_ns >= what.at_ns

        def stalled() -> float:
            return pacemaker.stalled(what.returned, time.monotonic())

        recovered = client.until(lambda: all(back(stream) for stream in streams), lambda: what.returned + GIVE_UP_S + stalled())
        if not recovered:
            self._violated(f"{fault.name}: not recovered from")
            self._stop.set()
        return Recovery(fault.name, time.monotonic() - what.returned, stalled())

    def _overload(self, until: float) -> None:
        """Beside the others: the daemon must answer all the same."""
        chance = random.Random(f"{self._seed} overload")
        while time.monotonic() < until and not self._stop.is_set():
            name = min(OVERLOAD, key=lambda name: (self.struck[name], chance.random()))
            self.struck[name] += 1
            try:
                OVERLOAD[name](self._stage, chance)
                began = time.monotonic()
                self._stage.daemon.ask_status()
            except Exception:  # noqa: BLE001 - as above
                self._violated(f"{name}: {traceback.format_exc()}")
                self._stop.set()
                return
            took, stalled = time.monotonic() - began, self._stage.pacemaker.stalled(began, time.monotonic())
            self.recoveries.append(Recovery(name, took, stalled))
            if not self.recoveries[-1].in_time(self._bar_s):
                self._violated(f"{name}: the daemon answered after {took:.2f} s")
            self._stop.wait(chance.uniform(0.5, 3.0))

    def _violated(self, sentence: str) -> None:
        self.violations.append(sentence)
        self._say(f"VIOLATION {sentence}")

    def _say(self, sentence: str) -> None:
        found = self._stage.laws.violations
        while self._told < len(found):
            self._told += 1
            print(f"{time.monotonic() - self.began:7.2f}  VIOLATION {found[self._told - 1]}", flush=True)
        print(f"{time.monotonic() - self.began:7.2f}  {sentence}", flush=True)


def silenced(chosen: list[Fault]) -> set[str]:
    """Streams whose sources these faults hit."""
    return {fault.target.removeprefix("capture-") for fault in chosen if fault.target.startswith("capture-")}


def run(seconds: float, seed: int, bar_s: float = BAR_S) -> list[str]:
    """The violations of one run."""
    with tempfile.TemporaryDirectory(prefix="mertd-chaos-") as name:
        folder = Path(name)
        with Stage(folder, seconds) as stage:
            stage.ready()
            before = stage.settled(Holding(stage.daemon.process.pid))
            chaos = Chaos(stage, seconds, seed, bar_s)
            chaos.run()
            after = stage.settled(before)
            if after.exceeds(before):
                chaos.violations.append(f"the supervisor held {before} before the faults, and {after} after them")
            stage.daemon.reading.set()
            stage.daemon.stop()
            stage.client.close()
            status = stage.client.last_status
            assert status is not None
            stage.laws.over(sum(told["waiting"] for told in status.streams.values()))
            wrong, got, lost = onlooker.complaints(stage.record, stage.laws.numbers)
            if seconds >= EVERY_S:
                wrong += [f"{name}: never struck" for name in {f.name for f in SOURCES_AND_MODEL} - chaos.struck.keys()]
        left = [str(path) for path in folder.rglob("*") if "mertd" in path.name or path.parent.name == "sockets"]
        violations = chaos.violations + stage.laws.violations + wrong + [f"left behind: {path}" for path in left]
        table(chaos.recoveries)
        laws, lost_lines = stage.laws, status.processes["supervisor"]["log_lost"]
        print(f"\n{stage.client.heard} messages checked; {status.published} published, {status.dropped} dropped")
        print(f"frozen subscriber: {got} messages, {lost} lost and reported")
        print(f"radio: {len(laws.bounds_ns)} windows held against the truth,", end=" ")
        print(f"median bound {statistics.median(laws.bounds_ns) / 1e6:.0f} ms,", end=" ")
        print(f"largest error {laws.worst_of_bound:.0%} of its bound; the pipe did not take {stage.writer.dropped} samples")
        if edges := [off / 1e6 for off in laws.edges_ns]:
            print(f"room: {len(edges)} times muted or heard again, {min(edges):+.0f} to {max(edges):+.0f} ms after the order")
        print(f"supervisor: {before} before, {after} after; log lines lost: {lost_lines}")
        print(f"the machine stood still for {stage.pacemaker.stalled(chaos.began, time.monotonic()):.2f} s in all")
    return violations


def table(recoveries: list[Recovery]) -> None:
    """A line a fault."""
    of: dict[str, list[float]] = defaultdict(list)
    for recovery in recoveries:
        of[recovery.fault].append(recovery.seconds)
    print(f"\n{'fault':36s} count  median s  longest s")
    for name, seconds in sorted(of.items()):
        print(f"{name:36s} {len(seconds):5d} {statistics.median(seconds):9.2f} {max(seconds):10.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument(
        "--tolerance", type=float, default=1.0, help="Factor by which a recovery may miss its bar, on a busy machine."
    )
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    try:
        violations = run(options.seconds, options.seed, options.tolerance * BAR_S)
    except Exception:  # noqa: BLE001 - a daemon that died, or left something behind: no less of a failure than the others
        violations = [traceback.format_exc()]
    for violation in violations:
        print(f"VIOLATION {violation}")
    if violations:
        again = f"PYTHONPATH=tests python tests/chaos/run.py --seconds {options.seconds:g} --seed {options.seed}"
        print(f"{len(violations)} violations; to repeat: {again}")
        sys.exit(1)
    print("no violations")


if __name__ == "__main__":
    main()
