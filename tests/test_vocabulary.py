"""The vocabulary of the wire: every word is used, and no word is spelled anywhere else."""

from __future__ import annotations

import ast
import re
from enum import StrEnum
from pathlib import Path

import pytest

import mertd
from mertd import vocabulary

ROOT = Path(mertd.__file__).parent
ENUMS = [value for value in vars(vocabulary).values() if isinstance(value, type) and issubclass(value, StrEnum)]
ENUMS = [enum for enum in ENUMS if enum is not StrEnum]
SOURCES = {path: path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py") if path.name != "vocabulary.py"}
MEMBERS = [member for enum in ENUMS for member in enum]


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: f"{type(member).__name__}.{member.name}")
def test_every_word_is_used(member: StrEnum) -> None:
    spelled = re.compile(rf"\b{type(member).__name__}\.{member.name}\b")
    assert any(spelled.search(source) for source in SOURCES.values())


def test_words_are_words() -> None:
    for member in MEMBERS:
        assert re.fullmatch(r"[a-z]+([_ ][a-z]+)*", member.value)
        assert member.name == member.value.upper().replace(" ", "_")


def test_events_are_published_by_their_names() -> None:
    """The name of an event is never a literal."""
    for path, source in SOURCES.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                assert function not in ("event", "announce", "begin_epoch", "Notice"), f"{path}:{node.lineno}"
