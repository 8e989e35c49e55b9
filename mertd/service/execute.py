"""Execute a plan, announcing each step first. The first step that fails ends it, and the error names that step."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mertd.daemon.instance import local_keys
from mertd.errors import EndpointError, MertdError, WireError
from mertd.files import replacing
from mertd.service.plan import (
    CopyFile,
    MakeDirectory,
    Plan,
    RemovePath,
    RunCommand,
    ShowFile,
    Step,
    WaitForCommand,
    WaitForDaemon,
    WriteFile,
    describe,
    shell_command,
)
from mertd.stream.request import ask
from mertd.wire import Status

POLL_S = 0.2
"""Seconds between two checks of a condition that a step waits for."""

QUERY_TIMEOUT_S = 20.0
"""Seconds that a service manager may take to report a state."""

EXIT_NOT_FOUND = 127
"""Exit code for a program that does not exist, as in shells."""

Report = Callable[[str], None]


class ServiceError(MertdError):
    """A step of a plan has failed."""


def show_plan(plan: Plan, report: Report) -> None:
    """Report what would be done, with the contents of files, and do nothing."""
    for number, step in enumerate(plan, 1):
        first, *more = describe(step, contents=True)
        report(f"{number}. {first}")
        for line in more:
            report(f" {line}")


def execute_plan(plan: Plan, report: Report) -> None:
    """Execute a plan. Raises `ServiceError` at the first step that fails; the steps before it stay done."""
    for step in plan:
        for line in describe(step):
            report(line)
        _execute(step, report)


def query(command: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Return exit code and output of a program that changes nothing. A program that is missing or hangs counts as failed.

    `environment`: all of its variables, in place of this process's.
    """
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=QUERY_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        return EXIT_NOT_FOUND, f"command {command[0]} not found"
    except (OSError, subprocess.TimeoutExpired) as error:
        return EXIT_NOT_FOUND, str(error)
    return done.returncode, done.stdout.decode(errors="replace")


def daemon_status(control: str, timeout_s: float = 0.5) -> Status | None:
    """Return the status of the daemon at an endpoint, or None if none answers."""
    with contextlib.suppress(EndpointError, WireError):
        for message in ask(control, {"request": "status"}, timeout_s, local_keys(control)):
            if isinstance(message, Status):
                return message
    return None


def has_content(path: Path, content: bytes) -> bool:
    """Return whether a file exists and holds exactly `content`."""
    try:
        return path.read_bytes() == content
    except OSError:
        return False


def _execute(step: Step, report: Report) -> None:
    try:
        match step:
            case WriteFile():
                _write(step)
            case MakeDirectory(path=path):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            case CopyFile(source=source, path=path):
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, path)
                path.chmod(0o755)
            case RemovePath():
                _remove(step, report)
            case ShowFile(path=path, otherwise=otherwise):
                text = path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""
                if text or otherwise:
                    report(text or otherwise)
            case RunCommand():
                _run(step, report)
            case WaitForCommand():
                _wait_for_command(step)
            case WaitForDaemon():
                _wait_for_daemon(step)
    except OSError as error:
        raise ServiceError(f"{_clause(step.what)}: {error}") from error


def _write(step: WriteFile) -> None:
    """Replace the file atomically: launchd or systemd may read it at any moment."""
    step.path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(step.path, step.mode) as file:
        file.write(step.content)


def _remove(step: RemovePath, report: Report) -> None:
    if not step.path.is_dir() or step.path.is_symlink():
        step.path.unlink(missing_ok=True)
    elif not step.if_empty:
        shutil.rmtree(step.path)
    elif not any(step.path.iterdir()):
        step.path.rmdir()
    else:
        report(f"  {step.path} stays, because it is not empty")


def _run(step: RunCommand, report: Report) -> None:
    environment = {**os.environ, **step.environment}
    if step.interactive:
        with contextlib.suppress(KeyboardInterrupt):
            subprocess.run(step.command, env=environment, check=False)
        return
    for attempts_left in range(step.attempts - 1, -1, -1):
        code, output = _run_once(step, environment)
        if code == 0 or code in step.accepted_codes or (step.goal_check and query(step.goal_check)[0] == 0):
            return
        if not (attempts_left and code in step.retry_codes):
            break
        report(f"  failed: {output or f'exit code {code}'}; retrying in {step.retry_delay_s:g} s")
        time.sleep(step.retry_delay_s)
    problem = f"`{shell_command(step.command)}` failed with exit code {code}: {output}".rstrip(": ")
    problem += f"; {step.hints[code]}" if code in step.hints else ""
    if not step.optional:
        raise ServiceError(problem)
    report(f"  {problem}; continuing without it")


def _run_once(step: RunCommand, environment: dict[str, str]) -> tuple[int, str]:
    try:
        done = subprocess.run(
            step.command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=step.timeout_s,
            check=False,
        )
    except FileNotFoundError:
        return EXIT_NOT_FOUND, f"command {step.command[0]} not found on this machine"
    except subprocess.TimeoutExpired:
        return EXIT_NOT_FOUND, f"timed out after {step.timeout_s:.0f} s"
    return done.returncode, " ".join(done.stdout.decode(errors="replace").split())


def _wait_for_command(step: WaitForCommand) -> None:
    def is_over() -> bool:
        code, output = query(step.command)
        return code not in (0, EXIT_NOT_FOUND) or bool(step.word and code == 0 and step.word not in output)

    expected = f"prints {step.word!r}" if step.word else "succeeds"
    _wait(is_over, step.timeout_s, f"`{shell_command(step.command)}` still {expected} after {step.timeout_s:.0f} s")


def _wait_for_daemon(step: WaitForDaemon) -> None:
    def answers() -> bool:
        status = daemon_status(step.control)
        return status is not None and step.version in ("", status.version)

    what = f"mertd {step.version}".strip()
    problem = f"no {what} answers at {step.control} after {step.timeout_s:.0f} s; see `mertd service logs` for the reason"
    _wait(answers, step.timeout_s, problem)


def _wait(condition: Callable[[], bool], timeout_s: float, problem: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise ServiceError(problem)
        time.sleep(POLL_S)


def _clause(sentence: str) -> str:
    """Return a sentence in the form in which it can begin another one."""
    return sentence[:1].lower() + sentence[1:].rstrip(".")
