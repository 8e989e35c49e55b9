"""Executing plans: what steps do to files, programs that fail or hang, and a dry run that changes nothing."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from mertd.service.execute import EXIT_NOT_FOUND, ServiceError, execute_plan, query, show_plan
from mertd.service.plan import (
    CopyFile,
    MakeDirectory,
    RemovePath,
    RunCommand,
    ShowFile,
    Step,
    WaitForCommand,
    WaitForDaemon,
    WriteFile,
)


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def execute(*plan: Step) -> list[str]:
    reported: list[str] = []
    execute_plan(plan, reported.append)
    return reported


COUNT = "import sys; from pathlib import Path; p = Path(sys.argv[1]); p.open('a').write('x'); n = len(p.read_text())"


def counts(path: Path, code: str = "3 - n") -> tuple[str, ...]:
    """A program that appends a letter to a file and exits with the number of letters missing from three."""
    return (*python(f"{COUNT}; sys.exit({code})"), str(path))


def test_files(tmp_path: Path) -> None:
    path, copy = tmp_path / "a" / "b" / "file", tmp_path / "c" / "copy"
    write = WriteFile(what="Write.", path=path, content=b"new", mode=0o600)
    execute(MakeDirectory(what="Make.", path=tmp_path / "own"), write, CopyFile(what="Copy.", source=path, path=copy))
    assert path.read_bytes() == copy.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "own").stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["file"], "nothing temporary is left"
    reported = execute(
        ShowFile(what="Look.", path=path), RemovePath(what="Go.", path=path), RemovePath(what="Go.", path=tmp_path / "c")
    )
    assert "new" in reported
    assert not path.exists()
    assert not copy.parent.exists()
    reported = execute(
        RemovePath(what="Go.", path=path),
        RemovePath(what="Go.", path=tmp_path / "own", if_empty=True),
        RemovePath(what="Go.", path=tmp_path, if_empty=True),
        ShowFile(what="Look.", path=path),
    )
    assert not (tmp_path / "own").exists()
    assert any(f"{tmp_path} stays, because it is not empty" in line for line in reported)


def test_a_link_is_removed_not_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    execute(RemovePath(what="Go.", path=tmp_path / "link"))
    assert (tmp_path / "kept").is_dir()
    assert not (tmp_path / "link").exists()


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServiceError, match=r"describe it: .*file"):
        execute(WriteFile(what="Describe it.", path=tmp_path / "file" / "below", content=b""))


def test_a_dry_run_does_nothing(tmp_path: Path) -> None:
    reported: list[str] = []
    plan = [
        WriteFile(what="Write.", undo="rm it", path=tmp_path / "file", content=b"one\ntwo"),
        RunCommand(what="Run.", command=counts(tmp_path / "count"), environment={"A": "b c"}),
        RemovePath(what="Remove.", path=tmp_path),
        MakeDirectory(what="Make.", path=tmp_path / "own"),
        CopyFile(what="Copy.", source=Path(sys.executable), path=tmp_path / "copy"),
        WaitForCommand(what="Wait.", command=counts(tmp_path / "count")),
        WaitForDaemon(what="Wait.", control="ipc:///nowhere/x", version="1"),
    ]
    show_plan(plan, reported.append)
    assert list(tmp_path.iterdir()) == []
    text = "\n".join(reported)
    assert "    | two" in text
    assert "undo   rm it" in text
    assert "A='b c' " in text
    assert [line[0] for line in reported if line[0] != " "] == [str(number) for number in range(1, len(plan) + 1)]


def test_a_program_is_retried_only_after_retry_codes(tmp_path: Path) -> None:
    execute(RunCommand(what="Run.", command=counts(tmp_path / "a"), retry_codes=frozenset({1, 2}), retry_delay_s=0))
    assert (tmp_path / "a").read_text() == "xxx"
    with pytest.raises(ServiceError, match="exit code 2"):
        execute(RunCommand(what="Run.", command=counts(tmp_path / "b"), retry_codes=frozenset({1}), retry_delay_s=0))
    assert (tmp_path / "b").read_text() == "x"
    with pytest.raises(ServiceError, match="exit code 1"):
        execute(
            RunCommand(what="Run.", command=counts(tmp_path / "c"), retry_codes=frozenset({1, 2}), attempts=2, retry_delay_s=0)
        )
    assert (tmp_path / "c").read_text() == "xx"


def test_exit_codes_that_count_as_success() -> None:
    fails = RunCommand(
        what="Run.", command=python("import sys; print('why', file=sys.stderr); sys.exit(9)"), hints={9: "do this"}
    )
    with pytest.raises(ServiceError, match=r"exit code 9: why; do this$"):
        execute(fails)
    execute(RunCommand(what="Run.", command=fails.command, accepted_codes=frozenset({9})))
    execute(RunCommand(what="Run.", command=fails.command, goal_check=python("")))
    with pytest.raises(ServiceError):
        execute(RunCommand(what="Run.", command=fails.command, goal_check=fails.command))
    reported = execute(RunCommand(what="Run.", command=fails.command, optional=True), Step(what="Afterwards."))
    assert "why; continuing without it" in reported[-2]
    assert reported[-1] == "Afterwards."


def test_programs_that_are_missing_or_hang() -> None:
    with pytest.raises(ServiceError, match="command no-such-program not found"):
        execute(RunCommand(what="Run.", command=("no-such-program",)))
    with pytest.raises(ServiceError, match="timed out after"):
        execute(RunCommand(what="Run.", command=python("import time; time.sleep(600)"), timeout_s=0.5))
    assert query(("no-such-program",))[0] == EXIT_NOT_FOUND


def test_waiting_for_a_command(tmp_path: Path) -> None:
    again = counts(tmp_path / "n", "n > 2")
    execute(WaitForCommand(what="Wait.", command=again))
    assert (tmp_path / "n").read_text() == "xxx"
    execute(WaitForCommand(what="Wait.", command=python("print('idle')"), word="running"))
    with pytest.raises(ServiceError, match="still prints 'running'"):
        execute(WaitForCommand(what="Wait.", command=python("print('running')"), word="running", timeout_s=0.2))
    with pytest.raises(ServiceError, match="still succeeds"):  # a missing program does not prove that the agent is gone
        execute(WaitForCommand(what="Wait.", command=("no-such-program",), timeout_s=0.2))


def test_a_daemon_that_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="service logs"):
        execute(WaitForDaemon(what="Wait.", control=f"ipc://{tmp_path}/control", version="1", timeout_s=0.1))


def test_a_program_gets_its_environment_besides_the_callers(tmp_path: Path) -> None:
    code = f"import os; open({str(tmp_path / 'e')!r}, 'w').write(os.environ['MINE'] + os.environ['PATH'])"
    execute(RunCommand(what="Run.", command=python(code), environment={"MINE": "yes:"}))
    assert (tmp_path / "e").read_text() == "yes:" + os.environ["PATH"]
