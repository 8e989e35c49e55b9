"""The executor: what it does to files, programs that fail or hang, and that a dry run does nothing at all."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from mertd.service.execute import MISSING, ServiceError, carry_out, query, show
from mertd.service.plan import Answer, Copy, Folder, Remove, Run, Show, Step, Until, Write


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def done(*plan: Step) -> list[str]:
    told: list[str] = []
    carry_out(plan, told.append)
    return told


COUNT = "import sys; from pathlib import Path; p = Path(sys.argv[1]); p.open('a').write('x'); n = len(p.read_text())"


def counts(path: Path, code: str = "3 - n") -> tuple[str, ...]:
    """A program that adds a letter to a file, and ends with as many as are missing from three."""
    return (*python(f"{COUNT}; sys.exit({code})"), str(path))


def test_files(tmp_path: Path) -> None:
    path, copy = tmp_path / "a" / "b" / "file", tmp_path / "c" / "copy"
    write = Write(what="Write.", path=path, content=b"new", mode=0o600)
    done(Folder(what="Make.", path=tmp_path / "own"), write, Copy(what="Copy.", source=path, path=copy))
    assert path.read_bytes() == copy.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "own").stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["file"], "nothing temporary is left"
    told = done(Show(what="Look.", path=path), Remove(what="Go.", path=path), Remove(what="Go.", path=tmp_path / "c"))
    assert "new" in told
    assert not path.exists()
    assert not copy.parent.exists()
    told = done(
        Remove(what="Go.", path=path),
        Remove(what="Go.", path=tmp_path / "own", if_empty=True),
        Remove(what="Go.", path=tmp_path, if_empty=True),
        Show(what="Look.", path=path),
    )
    assert not (tmp_path / "own").exists()
    assert any(f"{tmp_path} stays" in line for line in told)


def test_a_link_is_removed_not_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    done(Remove(what="Go.", path=tmp_path / "link"))
    assert (tmp_path / "kept").is_dir()
    assert not (tmp_path / "link").exists()


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServiceError, match=r"describe it: .*file"):
        done(Write(what="Describe it.", path=tmp_path / "file" / "below", content=b""))


def test_a_dry_run_does_nothing(tmp_path: Path) -> None:
    told: list[str] = []
    plan = [
        Write(what="Write.", undo="rm it", path=tmp_path / "file", content=b"one\ntwo"),
        Run(what="Run.", command=counts(tmp_path / "count"), environment={"A": "b c"}),
        Remove(what="Remove.", path=tmp_path),
        Folder(what="Make.", path=tmp_path / "own"),
        Copy(what="Copy.", source=Path(sys.executable), path=tmp_path / "copy"),
        Until(what="Wait.", command=counts(tmp_path / "count")),
        Answer(what="Wait.", control="ipc:///nowhere/x", version="1"),
    ]
    show(plan, told.append)
    assert list(tmp_path.iterdir()) == []
    text = "\n".join(told)
    assert "    | two" in text
    assert "undo   rm it" in text
    assert "A='b c' " in text
    assert [line[0] for line in told if line[0] != " "] == [str(number) for number in range(1, len(plan) + 1)]


def test_a_program_is_tried_again_only_for_what_may_pass(tmp_path: Path) -> None:
    done(Run(what="Run.", command=counts(tmp_path / "a"), again=frozenset({1, 2}), pause_s=0))
    assert (tmp_path / "a").read_text() == "xxx"
    with pytest.raises(ServiceError, match="exit code 2"):
        done(Run(what="Run.", command=counts(tmp_path / "b"), again=frozenset({1}), pause_s=0))
    assert (tmp_path / "b").read_text() == "x"
    with pytest.raises(ServiceError, match="exit code 1"):
        done(Run(what="Run.", command=counts(tmp_path / "c"), again=frozenset({1, 2}), tries=2, pause_s=0))
    assert (tmp_path / "c").read_text() == "xx"


def test_how_a_program_may_end() -> None:
    fails = Run(what="Run.", command=python("import sys; print('why', file=sys.stderr); sys.exit(9)"), hints={9: "do this"})
    with pytest.raises(ServiceError, match=r"exit code 9: why; do this$"):
        done(fails)
    done(Run(what="Run.", command=fails.command, fine=frozenset({9})))
    done(Run(what="Run.", command=fails.command, reached=python("")))
    with pytest.raises(ServiceError):
        done(Run(what="Run.", command=fails.command, reached=fails.command))
    told = done(Run(what="Run.", command=fails.command, may_fail=True), Step(what="Afterwards."))
    assert "why; going on without" in told[-2]
    assert told[-1] == "Afterwards."


def test_programs_that_are_missing_or_hang() -> None:
    with pytest.raises(ServiceError, match="there is no no-such-program"):
        done(Run(what="Run.", command=("no-such-program",)))
    with pytest.raises(ServiceError, match="has not ended"):
        done(Run(what="Run.", command=python("import time; time.sleep(600)"), patience_s=0.5))
    assert query(("no-such-program",))[0] == MISSING


def test_waiting_until(tmp_path: Path) -> None:
    again = counts(tmp_path / "n", "n > 2")
    done(Until(what="Wait.", command=again))
    assert (tmp_path / "n").read_text() == "xxx"
    done(Until(what="Wait.", command=python("print('idle')"), word="running"))
    with pytest.raises(ServiceError, match="still says so"):
        done(Until(what="Wait.", command=python("print('running')"), word="running", patience_s=0.2))
    with pytest.raises(ServiceError, match="still says so"):  # one that is missing has not told that the agent is gone
        done(Until(what="Wait.", command=("no-such-program",), patience_s=0.2))


def test_an_answer_that_does_not_come(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="service logs"):
        done(Answer(what="Wait.", control=f"ipc://{tmp_path}/control", version="1", patience_s=0.1))


def test_a_program_gets_its_environment_besides_ours(tmp_path: Path) -> None:
    code = f"import os; open({str(tmp_path / 'e')!r}, 'w').write(os.environ['MINE'] + os.environ['PATH'])"
    done(Run(what="Run.", command=python(code), environment={"MINE": "yes:"}))
    assert (tmp_path / "e").read_text() == "yes:" + os.environ["PATH"]
