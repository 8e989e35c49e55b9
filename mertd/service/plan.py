"""Plans: the steps that install, start or remove a service, as data that pure functions produce.

Each step says what it does and how to undo it. `mertd.service.execute` executes plans; a dry run only shows them. So the plan
for one platform can be shown and tested on another.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

NO_VARIABLES: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step. `what`: one sentence. `undo`: the command that reverses it; empty if there is nothing to reverse."""

    what: str
    undo: str = ""


@dataclass(frozen=True, kw_only=True)
class WriteFile(Step):
    """Write a file atomically, and create its parent directories."""

    path: Path
    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, kw_only=True)
class MakeDirectory(Step):
    """Create a directory that only its owner can enter, with its parents. An existing directory stays as it is."""

    path: Path


@dataclass(frozen=True, kw_only=True)
class CopyFile(Step):
    """Copy a program."""

    source: Path
    path: Path


@dataclass(frozen=True, kw_only=True)
class RemovePath(Step):
    """Remove a file or a directory with its contents, if it exists. `if_empty`: leave a directory that holds anything."""

    path: Path
    if_empty: bool = False


@dataclass(frozen=True, kw_only=True)
class ShowFile(Step):
    """Show a file that another program has written, if it exists. `otherwise`: what to say if there is nothing in it."""

    path: Path
    otherwise: str = ""


@dataclass(frozen=True, kw_only=True)
class RunCommand(Step):
    """Run a program.

    accepted_codes  exit codes, besides 0, that count as success
    goal_check      a command that succeeds if the goal is reached, whatever this program's exit code was
    retry_codes     exit codes after which it is run again, `attempts` times in all, `retry_delay_s` apart
    hints           remedies by exit code
    optional        a failure is shown, and the plan continues
    interactive     its output goes to the terminal, and Ctrl-C ends it
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    accepted_codes: frozenset[int] = frozenset()
    goal_check: tuple[str, ...] = ()
    retry_codes: frozenset[int] = frozenset()
    attempts: int = 5
    retry_delay_s: float = 1.0
    hints: Mapping[int, str] = field(default_factory=dict)
    optional: bool = False
    interactive: bool = False
    timeout_s: float = 120.0


@dataclass(frozen=True, kw_only=True)
class WaitForCommand(Step):
    """Wait until a command fails, or succeeds without `word` in its output."""

    command: tuple[str, ...]
    word: str = ""
    timeout_s: float = 30.0


@dataclass(frozen=True, kw_only=True)
class WaitForDaemon(Step):
    """Wait until a daemon of this version answers at a control endpoint. An empty version means any."""

    control: str
    version: str
    timeout_s: float = 60.0


Plan = Sequence[Step]


def describe(step: Step, contents: bool = False) -> list[str]:
    """Return lines for a person: what a step does, with which command or file, how to undo it. `contents`: of files, too."""
    lines = [step.what]
    match step:
        case WriteFile(path=path, content=content, mode=mode):
            lines.append(f"  write  {path} ({len(content)} bytes, mode {mode:o})")
            if contents:
                lines += [f"    | {line}" for line in content.decode(errors="replace").splitlines()]
        case MakeDirectory(path=path):
            lines.append(f"  make   {path}")
        case CopyFile(source=source, path=path):
            lines.append(f"  copy   {source} to {path}")
        case RemovePath(path=path, if_empty=if_empty):
            lines.append(f"  remove {path}" + (" if it is empty" if if_empty else ""))
        case ShowFile(path=path):
            lines.append(f"  show   {path}")
        case RunCommand(command=command, environment=environment, retry_codes=retry_codes, attempts=attempts):
            limit = f", up to {attempts} times" if retry_codes else ""
            lines.append(f"  run    {shell_command(command, environment)}{limit}")
        case WaitForCommand(command=command, word=word):
            lines.append(f"  until  {shell_command(command)} " + (f"no longer prints {word!r}" if word else "fails"))
        case WaitForDaemon(control=control):
            lines.append(f"  until  mertd status --control {shlex.quote(control)}")
    if step.undo:
        lines.append(f"  undo   {step.undo}")
    return lines


def shell_command(command: Sequence[str], environment: Mapping[str, str] = NO_VARIABLES) -> str:
    """Return a command as it would be typed in a shell."""
    return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in environment.items()), shlex.join(command)])
