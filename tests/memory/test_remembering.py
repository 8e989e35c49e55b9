from __future__ import annotations

from pathlib import Path

from memory.stored import BOOTS, small, vector
from mertd.memory.remembering import page
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
