"""Messages that keep the bytes they came as, so that they can be passed on unchanged."""

from __future__ import annotations

from dataclasses import dataclass

from mertd.wire import Embedding, Event, Message, decode


@dataclass(frozen=True, eq=False)
class RelayedEmbedding(Embedding):
    """An embedding and its bytes. It is read, and never encoded again."""

    payload: bytes = b""


@dataclass(frozen=True, eq=False)
class RelayedEvent(Event):
    """An event and its bytes. It is read, and never encoded again."""

    payload: bytes = b""


def decode_relayed(frames: list[bytes]) -> Message:
    """Do what `decode` does, and keep the bytes of embeddings and events. Raises `WireError`."""
    message = decode(frames)
    if isinstance(message, Embedding):
        return RelayedEmbedding(**vars(message), payload=frames[1])
    return RelayedEvent(**vars(message), payload=frames[1]) if isinstance(message, Event) else message


def payload_of(message: Embedding | Event) -> bytes:
    """Return the bytes of a message that `decode_relayed` has returned."""
    assert isinstance(message, RelayedEmbedding | RelayedEvent)
    return message.payload
