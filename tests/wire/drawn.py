"""Messages of all shapes, and values that may stand in their maps, drawn by hypothesis."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from mertd.windows import Late
from mertd.wire import Audio, Embedding, Event, Latency, Model, Span, Status, Time

counts = st.integers(0, 2**63 - 1)
numbers = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(max_size=12)
boots = st.binary(min_size=16, max_size=16)
plain = st.recursive(
    st.none() | st.booleans() | counts | numbers | words | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
maps = st.dictionaries(words, plain, max_size=4)
vectors = npst.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 8)), elements=st.floats(-1e6, 1e6, width=32))
embeddings = st.builds(
    Embedding,
    boot=boots,
    daemon=words,
    stream=words,
    epoch=counts,
    seq=counts,
    window=st.builds(Span, counts, counts, counts),
    time=st.builds(Time, counts, counts, counts, numbers),
    audio=st.builds(Audio, numbers, numbers, counts, counts, counts),
    model=st.builds(Model, words, words, words, st.booleans(), st.lists(counts, max_size=4).map(tuple), words, words, words),
    vector=vectors,
    latency_ns=st.builds(Latency, counts, counts, counts),
    skipped=counts,
    replay=st.booleans(),
)
events = st.builds(
    Event,
    boot=boots,
    daemon=words,
    stream=words,
    epoch=counts,
    seq=counts,
    event=words,
    index=counts,
    time_ns=counts,
    detail=maps,
    replay=st.booleans(),
)
statuses = st.builds(
    Status,
    boot=boots,
    daemon=words,
    time_ns=counts,
    uptime_ns=counts,
    version=words,
    phase=words,
    model=maps,
    streams=maps,
    processes=maps,
    published=counts,
    dropped=counts,
)
messages = embeddings | events | statuses

anything: st.SearchStrategy[Any] = st.recursive(
    plain
    | st.floats()
    | st.integers()
    | st.text(st.characters(exclude_categories=()), max_size=9)
    | st.tuples(words, st.sampled_from([1_000, 60_000, 400_000])).map(lambda drawn: (drawn[0] + "ä") * drawn[1])
    | st.sampled_from([msgpack.ExtType(1, b"x"), msgpack.Timestamp(1), np.float32(1), np.int64(7), {1}, 1j, Late.QUEUE]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.integers(0, 3), inner, max_size=3),
    max_leaves=12,
)
"""Also what the wire does not carry."""
