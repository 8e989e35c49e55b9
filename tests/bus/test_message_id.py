"""Identities of messages, and back; and holes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mertd.bus.bus_holes import BusHole, as_hole, missed, too_large
from mertd.bus.message_id import BusId, HoleId, MessageId, id_of, parse_id
from mertd.errors import BusError
from mertd.vocabulary import HoleCause
from mertd.wire import decode, encode
from messages import BOOT, embedding, event, status

BOOTS = st.binary(min_size=16, max_size=16)
NAMES = st.text(max_size=30)
KINDS = st.sampled_from(["embedding", "event"])
NUMBERS = st.integers(0, 1 << 62)
IDS = st.builds(MessageId, BOOTS, KINDS, NAMES, NUMBERS) | st.builds(HoleId, BOOTS, NAMES, KINDS, NUMBERS, NUMBERS, NUMBERS)


@given(IDS)
def test_an_identity_survives_the_way(identity: BusId) -> None:
    assert parse_id(str(identity)) == identity
    assert str(identity).isascii()
    assert str(identity).isprintable()
    assert " " not in str(identity)


@given(IDS, IDS)
def test_two_identities_are_written_alike_only_if_they_are_equal(one: BusId, other: BusId) -> None:
    assert (str(one) == str(other)) == (one == other)


@pytest.mark.parametrize("text", ["", "x", f"{BOOT.hex()}.embedding.room.01", f"{BOOT.hex()}.status.room.1", "zz.event.room.1"])
def test_other_ids_are_refused(text: str) -> None:
    with pytest.raises(BusError):
        parse_id(text)


def test_the_identity_of_a_message() -> None:
    assert str(id_of(embedding(5, "hall.1"))) == f"{BOOT.hex()}.embedding.hall%2E1.5"
    assert id_of(event(3)).next_seq == 4


@pytest.mark.parametrize("behind", [embedding(9), event(9)])
def test_a_hole_is_an_event_of_the_wire(behind: object) -> None:
    assert isinstance(behind, type(embedding()) | type(event()))
    hole = missed(behind, 4)
    assert hole == BusHole(BOOT, "studio", "room", behind.kind, 5, 9, HoleCause.MISSED)
    assert as_hole(decode(encode(hole.event(behind)))) == hole
    assert parse_id(str(hole.id(7))) == HoleId(BOOT, "room", behind.kind, 5, 9, 7)
    assert too_large(behind) == BusHole(BOOT, "studio", "room", behind.kind, 9, 10, HoleCause.TOO_LARGE)


def test_what_is_no_hole() -> None:
    announced = missed(embedding(9), 4).event(embedding(9))
    assert as_hole(embedding()) is as_hole(event()) is as_hole(status()) is None
    for detail in ({}, {**announced.detail, "first": 9}, {**announced.detail, "kind": "status"}):
        with pytest.raises(BusError):
            as_hole(replace(announced, detail=detail))
