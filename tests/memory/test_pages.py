from __future__ import annotations

from pathlib import Path

import pytest

from memory.stored import BOOTS, small, vector
from mertd.memory.pages import page, page_since
from mertd.memory.store import Store
from mertd.wire import Embedding, decode


def numbers(frames: list[list[bytes]]) -> list[int]:
    messages = [decode(pair) for pair in frames]
    assert all(isinstance(message, Embedding) and message.replay for message in messages)
    return [message.seq for message in messages if isinstance(message, Embedding)]


def test_pages_follow_on_each_other_over_all_files(tmp_path: Path) -> None:
    with Store(tmp_path, max_file=150_000) as store:
        for seq in range(0, 600, 100):
            store.append([small(n, boot=boot) for n in range(seq, seq + 100) for boot in BOOTS[:2]])
        found: list[int] = []
        more = True
        while more:
            frames, more = page(tmp_path, BOOTS[1], "embedding", "room", len(found), 590)
            assert 0 < len(frames) <= 256
            found += numbers(frames)
        assert found == list(range(590))
        assert numbers(page(tmp_path, BOOTS[1], "embedding", "room", 590, None)[0]) == list(range(590, 600))


def test_a_page_is_bounded_in_bytes(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.append([small(n, vector=vector(n, 768, 13)) for n in range(60)])
    frames, more = page(tmp_path, small(0).boot, "embedding", "room", 0, None)
    assert more
    assert sum(len(part) for pair in frames for part in pair) <= 1_000_000


def test_what_is_not_there_is_an_empty_page(tmp_path: Path) -> None:
    assert page(tmp_path, BOOTS[0], "embedding", "room", 0, None) == ([], False)
    with Store(tmp_path) as store:
        store.append([small(0)])
    assert page(tmp_path, BOOTS[3], "embedding", "room", 0, 5) == ([], False)
    assert page(tmp_path, BOOTS[0], "status", "room", 0, 5) == ([], False)
    assert page(tmp_path, BOOTS[0], "embedding", "room", -5, -3) == ([], False)


@pytest.mark.slow
def test_the_runs_since_a_time_come_one_after_the_other(tmp_path: Path) -> None:
    """A window begins 5 s after the one before; each run begins at 0 again, as if the clock had been set back."""
    assert page_since(tmp_path, "studio", None, "embedding", "room", 0) == ([], False)
    with Store(tmp_path, max_file=100_000) as store:
        for boot in BOOTS[:3]:
            for first in range(0, 600, 100):
                store.append([small(seq, boot=boot) for seq in range(first, first + 100)])
                store.append([small(seq, boot=boot, stream="hall") for seq in range(first, first + 100)])
        store.append([small(seq, boot=BOOTS[3], daemon="attic") for seq in range(5)])

        def first_page(after: bytes | None, since_s: int, stream: str = "room") -> list[tuple[bytes, int]]:
            frames, more = page_since(tmp_path, "studio", after, "embedding", stream, since_s * 1_000_000_000)
            messages = [message for pair in frames if isinstance(message := decode(pair), Embedding)]
            assert more == (bool(messages) and messages[-1].seq < 599)
            return [(message.boot, message.seq) for message in messages]

        assert first_page(None, 2_000) == [(BOOTS[0], seq) for seq in range(400, 600)]
        assert first_page(BOOTS[0], 2_990, "hall") == [(BOOTS[1], seq) for seq in range(256)], "whatever the clock said"
        assert first_page(BOOTS[0], -(1 << 40)) == [(BOOTS[1], seq) for seq in range(256)]
        assert first_page(BOOTS[2], 0) == [], "the other daemon's run is not this one's"
        assert first_page(None, 3_000) == []
        assert first_page(b"never stored", 2_990) == [(BOOTS[0], seq) for seq in (598, 599)]
