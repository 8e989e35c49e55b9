"""Every command under every condition in which a machine may be: it works, or says in one line why not, and ends with 3.

The commands are those of the program itself: one that is not in CALLS fails a test, so that none escapes. A traceback, an exit
code 1, or a process or file that is left behind is a fault under any condition.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer.main

from bus.cluster import Cluster
from cli.conditions import ALONE, HARMLESS, LISTENING, TOGETHER, Condition, Done, run_under
from cli.test_help import commands
from command_process import PATIENCE_S, Traces
from daemon_process import SHORT, TINY, Daemon, music, write_wav
from memory.test_forgetting import fill
from mertd.cli.app import app
from mertd.cli.standard_streams import STANDARD_OUTPUT

PROGRAM = [sys.executable, "-P", "-m", "mertd"]
ANYWHERE = ["--bind", "tcp://127.0.0.1:*", "--control", "tcp://127.0.0.1:*"]
SYNTH = ["--source", "synth:chords?seconds=2"]


@dataclass(frozen=True)
class Call:
    """How a command is called. `codes`: with which it may end on an ordinary machine; `prints`: on standard output.

    `noisy`: it or the libraries below it write more to standard error than complaints.
    `works_when`: files that show that it works, if it does not end by itself.
    """

    words: list[str]
    codes: tuple[int, ...] = (0,)
    prints: bool = True
    noisy: bool = False
    works_when: str = ""


DRY = ["--dry-run", "--platform", "systemd"]
CALLS = {
    ("run",): Call([*SYNTH, *TINY, *SHORT, *ANYWHERE, "--backend", "numpy", "--pace", "fast", "--exit-at-end"], prints=False),
    ("tail",): Call(["--connect", "{publish}", "--control", "{control}", "--count", "2", "--timeout", "20"]),
    ("embed",): Call(["{here}/song.wav", *TINY, *SHORT, "--backend", "numpy"]),
    ("demo",): Call(["--count", "1", "--weights", "random:0?size=tiny", "--backend", "numpy"]),
    ("devices",): Call([], codes=(0, 3), noisy=True),
    ("status",): Call(["--control", "{control}"]),
    ("bench",): Call(["--quick", "--only", "backends", "--runs", "1"], noisy=True),
    ("doctor",): Call(["--quick"], codes=(0, 3), noisy=True),
    ("man",): Call([]),
    ("remember",): Call(
        ["--connect", "{publish}", "--control", "{control}", "--memory", "{here}/new"], noisy=True, works_when="new/*"
    ),
    ("relay",): Call(
        ["--connect", "{publish}", "--control", "{control}", "--to", "{bus}", "--create", "--cursor", "{here}/place"],
        noisy=True,
        works_when="place",
    ),
    ("view",): Call(
        ["--connect", "{publish}", "--control", "{control}", "--bind", "127.0.0.1:0", "--memory", "{here}/memory"],
        noisy=True,
        works_when=LISTENING,
    ),
    ("replay",): Call([*ANYWHERE, "--speed", "max", "--memory", "{here}/memory"]),
    ("similar",): Call(["--now", "--memory", "{here}/memory"]),
    ("changes",): Call(["--to", "now", "--memory", "{here}/memory"]),
    ("memory", "info"): Call(["--memory", "{here}/memory"]),
    ("memory", "verify"): Call(["--memory", "{here}/memory"]),
    ("memory", "export"): Call(["{here}/memory.npz", "--memory", "{here}/memory"]),
    ("memory", "forget"): Call(["--memory", "{here}/memory", "--before", "now", "--yes"]),
    ("model", "pull"): Call(["--out", "{here}/pulled.safetensors"], codes=(3,), noisy=True),
    ("model", "import"): Call(["{here}/tiny.safetensors", "--out", "{here}/imported.safetensors"]),
    ("model", "random"): Call(["--size", "tiny", "--out", "{here}/random.safetensors"]),
    ("model", "check"): Call(["{here}/tiny.safetensors"]),
    ("model", "info"): Call(["{here}/tiny.safetensors", "--layers", "2"]),
    ("model", "export-coreml"): Call(
        ["{here}/tiny.safetensors", "--out", "{here}/tiny.mlpackage", "--window", "1", "--layers", "1"], noisy=True
    ),
    ("model", "compare"): Call(["numpy", "numpy", "--weights", "random:0?size=tiny", "--window", "1"]),
    ("model", "evaluate"): Call(  # whole, it takes half a minute
        ["--weights", "{here}/tiny.safetensors", "--soundfont", "{here}/absent.sf2"], codes=(2, 3), prints=False, noisy=True
    ),
    ("config", "init"): Call(["--force"]),
    ("config", "show"): Call([]),
    ("config", "check"): Call([]),
    ("control", "now"): Call(["--stream", "chords", "--control", "{control}"]),
    ("control", "pause"): Call(["--stream", "tone", "--control", "{control}"], codes=(0, 3)),  # it may be paused already
    ("control", "resume"): Call(["--stream", "tone", "--control", "{control}"], codes=(0, 3), prints=False),
    ("control", "set"): Call(["--hop", "0.5", "--stream", "tone", "--control", "{control}"]),
    ("control", "shutdown"): Call(["--control", "{another}"], prints=False),
    ("service", "install"): Call([*DRY, "--", *SYNTH, "--weights", "random:0?size=tiny", "--layers", "2"]),
    ("service", "uninstall"): Call(DRY),
    ("service", "start"): Call(DRY),
    ("service", "stop"): Call(DRY),
    ("service", "restart"): Call(DRY),
    ("service", "reload"): Call(DRY),
    ("service", "status"): Call([], codes=(0, 3)),
    ("service", "logs"): Call(DRY),
    ("keys", "new"): Call(["phone"]),
    ("keys", "show"): Call([]),
    ("keys", "allow"): Call(["guest", "--keys", "{here}/keys"]),
    ("keys", "revoke"): Call(["guest", "--keys", "{here}/keys"]),
}
"""All commands. `{here}` is a folder with a song, small weights, and the keys of a client who is allowed and called `guest`."""

FEW = {
    "all that is harmless": ("config", "show"),
    "standard output full": ("man",),
    "standard output closed": ("keys", "show"),
    "standard error closed": ("man",),
    "no home": ("keys", "new"),
}
"""What the fast loop tries: commands that need no daemon and no files."""


def test_every_command_is_tried() -> None:
    root = typer.main.get_command(app)
    found = {path for path, command in commands(root) if not hasattr(command, "list_commands")}
    assert found == CALLS.keys()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every command finds in its folder."""
    folder = tmp_path_factory.mktemp("template")
    write_wav(folder / "song.wav", music(2))
    fill(folder / "memory", 5).close()
    traces = Traces()
    try:
        for words in (
            ["model", "random", "--size", "tiny", "--out", "tiny.safetensors"],
            ["keys", "new", "guest", "--keys", "keys"],
            ["keys", "allow", "guest", "--keys", "keys"],
        ):
            subprocess.run([*PROGRAM, *words], cwd=folder, env=traces.environment, check=True, capture_output=True)
    finally:
        traces.remove()
    return folder


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    sources = ["--source", "synth:chords", "--source", "synth:tone"]
    with Daemon(*TINY, "--backend", "numpy", "--window", "1", "--hop", "0.5", *sources) as daemon:
        daemon.until(lambda s: s.streams["chords"]["embedded"] > 0)
        yield daemon


class Trial:
    """Runs commands under conditions, and says what is wrong with what comes of them."""

    def __init__(self, template: Path | None = None, daemon: Daemon | None = None, bus: Cluster | None = None) -> None:
        self._template, self._daemon, self._bus = template, daemon, bus

    def faults(self, name: str, condition: Condition, path: tuple[str, ...]) -> list[str]:
        call = CALLS[path]
        if path != ("control", "shutdown"):
            done = self._run(condition, path, "")
        else:
            with Daemon(*TINY, "--backend", "numpy", *SHORT, "--source", "synth:chords") as another:
                another.bound()
                done = self._run(condition, path, another.control)
                ended = done.code == 3 or another.process.wait(PATIENCE_S) == 0
                if not ended:
                    return [f"{name}: the daemon was not stopped"]
        return [f"`mertd {' '.join(path)}`, {name}: {fault}\n{done}" for fault in self._judge(call, condition, done)]

    def _run(self, condition: Condition, path: tuple[str, ...], another: str) -> Done:
        daemon = self._daemon
        endpoints = {"{publish}": daemon.publish, "{control}": daemon.control, "{another}": another} if daemon else {}
        endpoints |= {"{bus}": self._bus.url()} if self._bus else {}
        words = [functools.reduce(lambda w, e: w.replace(*e), endpoints.items(), word) for word in CALLS[path].words]
        return run_under(condition, PROGRAM, [*path, *words], self._fill, CALLS[path].works_when)

    def _fill(self, here: Path) -> None:
        if self._template is None:
            return
        shutil.copytree(self._template, here, dirs_exist_ok=True)
        (here / "keys").chmod(0o700)

    @staticmethod
    def _judge(call: Call, condition: Condition, done: Done) -> Iterator[str]:
        codes = {*call.codes}
        if condition.output_is_lost and call.prints:
            codes = {3}
        if condition.may_refuse:
            codes |= {3}
        if done.code not in codes:
            yield f"ended with {done.code}, not with one of {sorted(codes)}"
        if "Traceback" in done.errors or "Traceback" in done.output:
            yield "a traceback"
        if done.left:
            yield f"left behind: {done.left}"
        complaints = [line for line in done.errors.splitlines() if line.startswith("mertd: ")]
        if condition.errors_are_seen and done.code == 3 and 3 not in call.codes and len(complaints) != 1:
            yield f"{len(complaints)} lines say why, not one"
        if done.code == 0 and complaints and not call.noisy:
            yield "complaints about nothing"
        seen = condition.output == "captured" and STANDARD_OUTPUT not in condition.closed
        if seen and done.code == 0 and call.prints != bool(done.output):
            yield "no output" if call.prints else "unexpected output"


@pytest.fixture(scope="module")
def bus() -> Iterator[Cluster]:
    with Cluster() as bus:
        yield bus


@pytest.fixture(scope="module")
def trial(template: Path, daemon: Daemon, bus: Cluster) -> Trial:
    return Trial(template, daemon, bus)


@pytest.mark.slow
@pytest.mark.parametrize("path", CALLS, ids=lambda path: "-".join(path))
def test_all_conditions(path: tuple[str, ...], trial: Trial) -> None:
    found = [fault for name, condition in TOGETHER.items() for fault in trial.faults(name, condition, path)]
    if any("all that is harmless" in fault for fault in found):
        found += [fault for name, condition in HARMLESS.items() for fault in trial.faults(name, condition, path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", FEW)
def test_a_few(name: str) -> None:
    found = Trial().faults(name, {**TOGETHER, **ALONE}[name], FEW[name])
    assert not found, "\n".join(found)


def test_a_fault_is_found() -> None:
    """The judge of all of them is no friend of anyone."""
    ordinary, full = HARMLESS["nothing odd"], TOGETHER["standard output full"]
    call = Call([])
    judge = Trial._judge
    assert not [*judge(call, ordinary, Done(0, "fine", ""))]
    assert not [*judge(call, full, Done(3, "", "mertd: standard output cannot be written"))]
    for condition, done in (
        (ordinary, Done(0, "", "")),
        (ordinary, Done(1, "fine", "")),
        (ordinary, Done(0, "fine", "Traceback (most recent call last):")),
        (ordinary, Done(0, "fine", "", ["process 1"])),
        (ordinary, Done(3, "", "mertd: no")),
        (full, Done(0, "", "")),
        (full, Done(3, "", "")),
        (full, Done(3, "", "mertd: a\nmertd: b")),
    ):
        assert [*judge(call, condition, done)], done
