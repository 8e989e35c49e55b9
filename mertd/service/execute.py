"""Carries out a plan, step by step, and tells each before it is done. Stops at the first that fails, and says where."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mertd.daemon.instance import local_keys
from mertd.errors import EndpointError, MertdError, WireError
from mertd.files import replacing
from mertd.service.plan import Answer, Copy, Folder, Plan, Remove, Run, Show, Step, Until, Write, lines, shell
from mertd.stream.request import ask
from mertd.wire import Status

POLL_S = 0.2
QUERY_S = 20.0
"""How long a service manager may take to say how a service is."""

MISSING = 127
"""Exit code of a program that is not there, as shells have it."""

Tell = Callable[[str], None]


class ServiceError(MertdError):
    """A step of a plan has failed."""


def show(plan: Plan, tell: Tell) -> None:
    """Tell what would be done, and do nothing."""
    for number, step in enumerate(plan, 1):
        first, *more = lines(step, contents=True)
        tell(f"{number}. {first}")
        for line in more:
            tell(f" {line}")


def carry_out(plan: Plan, tell: Tell) -> None:
    """Do it. Raises `ServiceError` at the first step that fails; those before it stay done."""
    for step in plan:
        for line in lines(step):
            tell(line)
        _do(step, tell)


def query(command: Sequence[str]) -> tuple[int, str]:
    """Exit code and output of a program that only tells; a program that is missing, or hangs, has failed."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=QUERY_S, check=False
        )
    except FileNotFoundError:
        return MISSING, f"there is no {command[0]}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return MISSING, str(error)
    return done.returncode, done.stdout.decode(errors="replace")


def answering(control: str, timeout_s: float = 0.5) -> Status | None:
    """The status of the daemon at an endpoint, or None if none answers."""
    with contextlib.suppress(EndpointError, WireError):
        for message in ask(control, {"request": "status"}, timeout_s, local_keys(control)):
            if isinstance(message, Status):
                return message
    return None


def _do(step: Step, tell: Tell) -> None:
    try:
        match step:
            case Write():
                _write(step)
            case Folder(path=path):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            case Copy(source=source, path=path):
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, path)
                path.chmod(0o755)
            case Remove():
                _remove(step, tell)
            case Show(path=path):
                if path.is_file():
                    tell(path.read_text(encoding="utf-8", errors="replace").strip())
            case Run():
                _run(step, tell)
            case Until():
                _until(step)
            case Answer():
                _answer(step)
    except OSError as error:
        raise ServiceError(f"{_small(step.what)}: {error}") from error


def _write(step: Write) -> None:
    """In one step for whoever reads it, launchd and systemd among them."""
    step.path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(step.path, step.mode) as file:
        file.write(step.content)


def _remove(step: Remove, tell: Tell) -> None:
    if not step.path.is_dir() or step.path.is_symlink():
        step.path.unlink(missing_ok=True)
    elif not step.if_empty:
        shutil.rmtree(step.path)
    elif not any(step.path.iterdir()):
        step.path.rmdir()
    else:
        tell(f"  {step.path} stays: there is something in it")


def _run(step: Run, tell: Tell) -> None:
    environment = {**os.environ, **step.environment}
    if step.visible:
        with contextlib.suppress(KeyboardInterrupt):
            subprocess.run(step.command, env=environment, check=False)
        return
    for left in range(step.tries - 1, -1, -1):
        code, said = _once(step, environment)
        if code == 0 or code in step.fine or (step.reached and query(step.reached)[0] == 0):
            return
        if not (left and code in step.again):
            break
        tell(f"  it said: {said or f'exit code {code}'}; again in {step.pause_s:g} s")
        time.sleep(step.pause_s)
    problem = f"`{shell(step.command)}` failed with exit code {code}: {said}".rstrip(": ")
    problem += f"; {step.hints[code]}" if code in step.hints else ""
    if not step.may_fail:
        raise ServiceError(problem)
    tell(f"  {problem}; going on without")


def _once(step: Run, environment: dict[str, str]) -> tuple[int, str]:
    try:
        done = subprocess.run(
            step.command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=step.patience_s,
            check=False,
        )
    except FileNotFoundError:
        return MISSING, f"there is no {step.command[0]} on this machine"
    except subprocess.TimeoutExpired:
        return MISSING, f"it has not ended in {step.patience_s:.0f} s"
    return done.returncode, " ".join(done.stdout.decode(errors="replace").split())


def _until(step: Until) -> None:
    def over() -> bool:
        code, said = query(step.command)
        return code not in (0, MISSING) or bool(step.word and code == 0 and step.word not in said)

    _wait(over, step.patience_s, f"`{shell(step.command)}` still says so after {step.patience_s:.0f} s")


def _answer(step: Answer) -> None:
    def right() -> bool:
        status = answering(step.control)
        return status is not None and step.version in ("", status.version)

    what = f"mertd {step.version}".strip()
    problem = f"no {what} answers at {step.control} after {step.patience_s:.0f} s; `mertd service logs` says why"
    _wait(right, step.patience_s, problem)


def _wait(over: Callable[[], bool], patience_s: float, problem: str) -> None:
    deadline = time.monotonic() + patience_s
    while not over():
        if time.monotonic() > deadline:
            raise ServiceError(problem)
        time.sleep(POLL_S)


def _small(sentence: str) -> str:
    """A sentence as part of another one."""
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def same(path: Path, content: bytes) -> bool:
    """Whether a file is there and holds this."""
    try:
        return path.read_bytes() == content
    except OSError:
        return False
