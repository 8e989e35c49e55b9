"""Messages from bytes: the same as those that `Connection.send` was given, however the bytes were cut."""

from __future__ import annotations

import os
import pickle
import threading
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mertd.processes.framing import MessageParser


def sent(messages: list[Any]) -> bytes:
    """The bytes that a connection sends."""
    ours, theirs = get_context("spawn").Pipe()
    parts: list[bytes] = []

    def read() -> None:  # meanwhile, as a connection holds only some kilobytes
        while data := os.read(theirs.fileno(), 1 << 20):
            parts.append(data)

    reader = threading.Thread(target=read)
    with theirs:
        reader.start()
        with ours:
            for message in messages:
                ours.send(message)
        reader.join()
    return b"".join(parts)


@given(st.lists(st.binary(max_size=300) | st.integers() | st.text(max_size=20), max_size=6), st.data())
def test_any_cut_gives_the_same_messages(messages: list[Any], data: st.DataObject) -> None:
    wire = sent(messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=5)))
    parser = MessageParser()
    parts = [wire[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert [message for part in parts for message in parser.feed(part)] == messages


def test_a_large_message_in_small_parts() -> None:
    vector = np.arange(30_000, dtype=np.float32)
    wire = sent([vector])
    parser = MessageParser()
    found = [message for at in range(0, len(wire), 999) for message in parser.feed(wire[at : at + 999])]
    assert len(found) == 1
    assert np.array_equal(found[0], vector)


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\0\0\0\x04this"])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        list(MessageParser().feed(data))
