"""What is to be done to install, start or remove a service, as data: a plan is a sequence of steps, made by pure functions.

Each step says what it is for and how to undo it. `mertd.service.execute` carries plans out; a dry run only shows them. So
what a plan does on one platform can be seen, and tested, on another.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class Step:
    """`what`: one sentence; `undo`: how to reverse it by hand, empty if there is nothing to reverse."""

    what: str
    undo: str = ""


@dataclass(frozen=True, kw_only=True)
class Write(Step):
    """Write a file, in one go, and make the folders above it."""

    path: Path
    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, kw_only=True)
class Folder(Step):
    """Make a folder, and those above it, for its owner alone; one that is there stays as it is."""

    path: Path


@dataclass(frozen=True, kw_only=True)
class Copy(Step):
    """Copy a program."""

    source: Path
    path: Path


@dataclass(frozen=True, kw_only=True)
class Remove(Step):
    """Remove a file, or a folder with all in it; it need not be there. `if_empty`: a folder in which something is stays."""

    path: Path
    if_empty: bool = False


@dataclass(frozen=True, kw_only=True)
class Show(Step):
    """Tell what a file holds that another program has written; it need not be there."""

    path: Path


@dataclass(frozen=True, kw_only=True)
class Run(Step):
    """Run a program.

    fine      exit codes, besides 0, that mean it is as wanted
    reached   another program: if that succeeds, it is as wanted, too, whatever this one said
    again     exit codes after which it is tried again, `tries` times in all, `pause_s` apart
    hints     for exit codes, what to do about them
    may_fail  its failure is told, and the plan goes on
    visible   its output is the person's to see, and to end with Ctrl-C
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    fine: frozenset[int] = frozenset()
    reached: tuple[str, ...] = ()
    again: frozenset[int] = frozenset()
    tries: int = 5
    pause_s: float = 1.0
    hints: Mapping[int, str] = field(default_factory=dict)
    may_fail: bool = False
    visible: bool = False
    patience_s: float = 120.0


@dataclass(frozen=True, kw_only=True)
class Until(Step):
    """Wait until a program fails, or succeeds without saying `word`."""

    command: tuple[str, ...]
    word: str = ""
    patience_s: float = 30.0


@dataclass(frozen=True, kw_only=True)
class Answer(Step):
    """Wait until the daemon of this version answers at a control endpoint; any version, if that is empty."""

    control: str
    version: str
    patience_s: float = 60.0


Plan = Sequence[Step]


def lines(step: Step, contents: bool = False) -> list[str]:
    """A step for a person: what, by which command or file, how to undo it. `contents`: of files, too, if they are text."""
    out = [step.what]
    match step:
        case Write(path=path, content=content, mode=mode):
            out.append(f"  write  {path} ({len(content)} bytes, mode {mode:o})")
            if contents:
                out += [f"    | {line}" for line in content.decode(errors="replace").splitlines()]
        case Folder(path=path):
            out.append(f"  make   {path}")
        case Copy(source=source, path=path):
            out.append(f"  copy   {source} to {path}")
        case Remove(path=path, if_empty=if_empty):
            out.append(f"  remove {path}" + (" if it is empty" if if_empty else ""))
        case Show(path=path):
            out.append(f"  show   {path}")
        case Run(command=command, environment=environment, again=again, tries=tries):
            more = f", up to {tries} times" if again else ""
            out.append(f"  run    {shell(command, environment)}{more}")
        case Until(command=command, word=word):
            out.append(f"  until  {shell(command)} " + (f"no longer says {word!r}" if word else "fails"))
        case Answer(control=control):
            out.append(f"  until  mertd status --control {shlex.quote(control)}")
    if step.undo:
        out.append(f"  undo   {step.undo}")
    return out


def shell(command: Sequence[str], environment: Mapping[str, str] = NOTHING) -> str:
    """A command as one could type it."""
    return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in environment.items()), shlex.join(command)])
