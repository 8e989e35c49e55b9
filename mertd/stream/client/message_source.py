"""What a program receives messages from, wherever they come from: one by one, or by iterating."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Iterator
from types import TracebackType
from typing import Self

from mertd.errors import EndpointError
from mertd.stream.client.inbox import Received
from mertd.wire import Message


class MessageSource(ABC):
    """Iterate over it, with `for` or `async for`, or call `receive`. As a context manager it is closed at the end."""

    _timeout: float | None = None  # seconds without a message after which iterating raises

    @abstractmethod
    def receive(self, timeout_s: float | None = None) -> Received | None:
        """Return the next message, or None if none came within `timeout_s` (None: wait for ever)."""

    @abstractmethod
    async def receive_async(self, timeout_s: float | None = None) -> Received | None:
        """Do the same in an event loop, without blocking it. One call at a time."""

    @abstractmethod
    def acknowledge(self) -> None:
        """Count the message that was received last as done, and save the cursor now. Raises `StoreError`."""

    @abstractmethod
    def done(self, messages: Iterable[Received]) -> None:
        """Count these as done; the cursor is saved a moment later. For subscribers that were made with `by_hand`.

        The messages of each kind and stream are given in the order in which they came.
        """

    @abstractmethod
    def close(self) -> None:
        """Disconnect, and save the cursor. Nothing can be received afterwards. Raises `StoreError`."""

    @abstractmethod
    def _silence(self) -> str:
        """Return where nothing comes from, and what may say why."""

    @property
    @abstractmethod
    def lost(self) -> int:
        """Messages that are missing for good."""

    @property
    @abstractmethod
    def recovered(self) -> int:
        """Messages that came from a history."""

    @property
    @abstractmethod
    def passed_over(self) -> int:
        """Embeddings that `newest` left out."""

    def __iter__(self) -> Iterator[Message]:
        """Yield messages for ever. What is lost is counted and logged."""
        while True:
            yield self._message(self.receive(self._timeout))

    async def __aiter__(self) -> AsyncIterator[Message]:
        while True:
            yield self._message(await self.receive_async(self._timeout))

    def _message(self, received: Received | None) -> Message:
        if received is None:
            raise EndpointError(f"nothing in {self._timeout:g} s from {self._silence()}")
        return received.message

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
