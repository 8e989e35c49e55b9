"""Names in subjects, and back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mertd.bus.subjects import ALL, KINDS, MAX_SUBJECT, Subject, name_of, parse_subject, pattern, token
from mertd.errors import BusError

NAMES = st.text(max_size=40) | st.sampled_from(
    ["", "%", "*", ">", ".", "..", "a b", "hall.1", "straße", "~", "%2E", "\x00", "😀"]
)
PLAIN = re.compile(r"[A-Za-z0-9_%-]+")


@given(NAMES)
def test_a_name_survives_the_way(name: str) -> None:
    text = token(name)
    assert PLAIN.fullmatch(text), "one token, without a wildcard, for NATS and MQTT"
    assert name_of(text) == name


@given(NAMES, NAMES, st.sampled_from(KINDS))
def test_a_subject_survives_the_way(daemon: str, stream: str, kind: str) -> None:
    subject = Subject(daemon, stream, kind)
    assert parse_subject(str(subject)) == subject
    assert str(subject).count(".") == 3
    assert str(subject) == pattern(daemon, stream, kind)
    assert str(subject).startswith(ALL[:-1])


@given(st.text(max_size=20))
def test_what_stands_for_no_name_is_refused(text: str) -> None:
    try:
        name = name_of(text)
    except BusError:
        return
    assert token(name) == text, "two tokens never stand for one name"


def test_names_are_written_as_the_page_says() -> None:
    assert token("hall 1.left") == "hall%201%2Eleft"
    assert pattern("studio") == "mertd.studio.*.*"
    assert len(str(Subject("d" * 63, "s" * 63, "embedding"))) < MAX_SUBJECT


@pytest.mark.parametrize(
    "text", ["", "mertd.a.b.status", "mertd.a.b", "other.a.b.event", "mertd..b.event", "mertd.a.%2e.event"]
)
def test_other_subjects_are_refused(text: str) -> None:
    with pytest.raises(BusError):
        parse_subject(text)
