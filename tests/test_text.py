"""Foreign text cannot act on a terminal, forge a line, or be too long."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mertd.text import MAX_LINE, MAX_TEXT, encodable, json_text, printable, shorten

any_text = st.text(st.characters(exclude_categories=()), max_size=40)  # surrogates, too
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
ACTING = [chr(code) for code in [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0xD800, 0xDFFF]] + list(BIDI)


@pytest.mark.parametrize("letter", ACTING, ids=lambda letter: f"U+{ord(letter):04X}")
def test_whatever_acts_on_a_terminal_is_shown_instead(letter: str) -> None:
    shown = printable(f"a{letter}b")
    assert letter not in shown
    assert shown.startswith("a\\")
    assert shown.isprintable()
    assert json.loads(json_text(letter)) == letter
    assert letter not in json_text({letter: [letter]})


@given(any_text)
def test_what_is_printable_is_one_line_that_any_utf8_terminal_takes(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    shown.encode()
    assert not [letter for letter in shown if unicodedata.category(letter) in ("Cc", "Zl", "Zp", "Cs")]
    assert printable(shown) == shown


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=40))
def test_text_that_is_harmless_stays_as_it_is(text: str) -> None:
    assert printable(text) == encodable(text) == text


def test_a_terminal_command_and_a_forged_line_are_told_as_they_are() -> None:
    assert printable("\x1b[2J\nmertd: all is well\r\t\x9b31m\udcff") == r"\x1b[2J\nmertd: all is well\r\t\x9b31m\udcff"


def test_too_long_a_text_is_cut_in_the_middle_and_says_how_much_is_missing() -> None:
    assert shorten("0123456789", 10) == "0123456789"
    assert shorten("0123456789ab", 8) == "012345… (4 characters cut) …ab"
    assert printable("\x1b" * 5_000_000).count("\\x1b") == MAX_LINE
    assert f"({5_000_000 - MAX_LINE} characters cut)" in printable("x" * 5_000_000)
    assert printable("x" * 100_000, None) == "x" * 100_000
    assert len(shorten("x" * 5_000_000)) < MAX_TEXT + 50


@given(any_text)
def test_encodable_text_is_utf8(text: str) -> None:
    assert encodable(text).encode().decode() == encodable(text)


def test_what_json_does_not_have_is_told_as_text() -> None:
    assert json.loads(json_text({"a": b"\xff\x00", "b": {1}, "c": None})) == {"a": "ff00", "b": "{1}", "c": None}
