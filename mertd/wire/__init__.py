"""Wire version 1: embeddings, events and status as two ZeroMQ frames, and back."""

from mertd.wire.codec import MAX_BYTES, SCHEMA, as_json, decode, encode
from mertd.wire.encoder import Encoder
from mertd.wire.fit import fit
from mertd.wire.kinds import REPLAY_MARK, Audio, Embedding, Event, Latency, Message, Model, Span, Status, Time

__all__ = [
    "MAX_BYTES",
    "REPLAY_MARK",
    "SCHEMA",
    "Audio",
    "Embedding",
    "Encoder",
    "Event",
    "Latency",
    "Message",
    "Model",
    "Span",
    "Status",
    "Time",
    "as_json",
    "decode",
    "encode",
    "fit",
]
