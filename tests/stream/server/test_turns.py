"""Turns: nobody waits for more than one item of each other client, and nothing that is queued gets lost."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mertd.stream.server.turns import Turns


def everyone(_: object) -> bool:
    return True


def test_each_client_has_its_turn() -> None:
    turns: Turns[str] = Turns(limit=10, limit_per_client=5)
    for item in ("a1", "a2", "a3", "b1", "c1"):
        assert turns.add(item[0], item) is None
    assert [turns.take(everyone) for _ in range(6)] == ["a1", "b1", "c1", "a2", "a3", None]


def test_a_client_that_may_not_go_keeps_its_place() -> None:
    turns: Turns[str] = Turns(limit=10, limit_per_client=5)
    for item in ("a1", "b1"):
        turns.add(item[0], item)
    assert turns.take(lambda client: client != "a") == "b1"
    assert turns.take(lambda client: client != "a") is None
    assert turns.clients() == ["a"]
    assert turns.take(everyone) == "a1"


def test_when_there_is_no_room_the_longest_line_gets_shorter() -> None:
    turns: Turns[str] = Turns(limit=3, limit_per_client=2)
    assert turns.add("a", "a1") is None
    assert turns.add("a", "a2") is None
    assert turns.add("a", "a3") == "a3", "more than a client may have"
    assert turns.add("b", "b1") is None
    assert turns.add("c", "c1") == "a2"
    assert len(turns) == 3


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans())), st.integers(1, 8), st.integers(1, 4))
def test_what_is_queued_is_taken_or_left_out_once(steps: list[tuple[str, bool]], limit: int, limit_per_client: int) -> None:
    turns: Turns[int] = Turns(limit, limit_per_client)
    queued: set[int] = set()
    for number, (client, takes) in enumerate(steps):
        if takes:
            taken = turns.take(everyone)
            assert (taken is None) == (not queued)
            queued.discard(-1 if taken is None else taken)
        else:
            queued.add(number)
            left_out = turns.add(client, number)
            if left_out is not None:
                assert left_out in queued
                queued.remove(left_out)
        assert len(turns) == len(queued) <= limit


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30))
def test_nobody_waits_for_two_items_of_another(clients: list[str]) -> None:
    turns: Turns[str] = Turns(limit=100, limit_per_client=100)
    for client in clients:
        turns.add(client, client)
    served = [turns.take(everyone) for _ in clients]
    for client in set(clients):
        places = [i for i, one in enumerate(served) if one == client]
        for here, there in pairwise(places):
            between = served[here + 1 : there]
            assert len(between) == len(set(between))
