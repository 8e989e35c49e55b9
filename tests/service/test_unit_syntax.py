"""Words in unit files: systemd reads what was written; what it cannot represent is refused."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mertd.errors import UsageError
from mertd.service.unit_syntax import argument, assignment, directory, executable, split
from service.unit_reader import UNREPRESENTABLE, read_assignments, read_command, read_paths

TEXT = st.text(st.characters(codec="utf-8")).filter(lambda word: not UNREPRESENTABLE.search(word))
NASTY = st.text(st.sampled_from("\\\"'%$;@{}-+!:|# \t\n\r\x1b\x7f\x85\u2028\u202eaä\U0001f600nx0"))
WORDS = st.lists(TEXT | NASTY, max_size=4)
PATHS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"])).filter(lambda path: not UNREPRESENTABLE.search(path))


@given(WORDS)
def test_systemd_reads_the_same_arguments(words: list[str]) -> None:
    line = " ".join([executable("/a b/50%/python"), *map(argument, words)])
    assert line.isprintable(), "one line, and safe to print"
    assert read_command(line) == ["/a b/50%/python", *words]


@given(WORDS)
def test_quoting_can_be_undone(words: list[str]) -> None:
    assert split(" ".join(map(argument, words))) == words


@given(st.text(string.ascii_uppercase, min_size=1), TEXT | NASTY)
def test_systemd_reads_the_same_variable(name: str, value: str) -> None:
    line = assignment(name, value)
    assert line.isprintable()
    assert read_assignments(line) == [f"{name}={value}"]


@given(PATHS)
def test_systemd_reads_the_same_directory(path: str) -> None:
    assert read_paths(f"-%%t -{directory(f'/{path}')}") == ["%t", f"/{path}"]


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("run", "run"),
        ("", '""'),
        ("a b", '"a b"'),
        ("50%", "50%%"),
        ("$HOME", '"$$HOME"'),
        ('"', '"\\""'),
        ("a\\b", '"a\\\\b"'),
        ("a\nb", '"a\\x0ab"'),
        ("\x1b[31m", '"\\x1b[31m"'),
        ("\u202e", '"\\xe2\\x80\\xae"'),
        (";", '";"'),
    ],
)
def test_quoting_as_systemd_has_it(word: str, quoted: str) -> None:
    assert argument(word) == quoted


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a  'b c'\t\"d e\"", ["a", "b c", "d e"]),
        (r"a\sb \x41 \u00fc \U0001f600 \n \t \\ \" \'", ["a b", "A", "ü", "\U0001f600", "\n", "\t", "\\", '"', "'"]),
        ('"" 50%% $$HOME', ["", "50%", "$HOME"]),
    ],
)
def test_other_spellings_are_read_too(line: str, words: list[str]) -> None:
    """The unit was edited, or written by an older version."""
    assert split(line) == words


@pytest.mark.parametrize("line", ['"a', "a\\", "\\q", "\\x4", "\\xzz", r"\xff"])
def test_invalid_command_lines(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds
        split(line)


@pytest.mark.parametrize("word", ["a\0b", "\udcff", "\ufffe", "\ufdd0", "\U0010ffff"])
def test_unrepresentable_words_are_refused(word: str) -> None:
    for write in (argument, executable, directory, lambda value: assignment("A", value)):
        with pytest.raises(UsageError, match="cannot represent"):
            write(word)


@pytest.mark.parametrize("character", ["'", '"', "\\", "\n", "\x1b", "$", "\x7f"])
def test_a_program_that_systemd_cannot_start_is_refused(character: str) -> None:
    with pytest.raises(UsageError, match=r"install mertd in another directory"):
        executable(f"/opt/{character}/python")


@pytest.mark.parametrize("character", ["\n", "\t", "\x1b", "\x7f"])
def test_a_directory_with_control_characters_is_refused(character: str) -> None:
    with pytest.raises(UsageError, match="choose another directory"):
        directory(f"/srv/{character}")
