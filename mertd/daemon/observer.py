"""What measures a daemon from within, as the benchmark does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mertd.embed.messages import Answers, Request
from mertd.wire import Embedding, Event


class Observer(Protocol):
    """Sees the windows on their way. Everything is called in the event loop, and takes part of its time."""

    def submitting(self, requests: Sequence[Request]) -> None:
        """A batch is about to be given to the embed process."""

    def answered(self, answers: Answers) -> None:
        """The embed process has answered a batch, which is about to be handled."""

    def publishing(self, message: Embedding | Event) -> None:
        """A message is about to be published."""


class NoObserver:
    """Sees nothing."""

    def submitting(self, requests: Sequence[Request]) -> None: ...

    def answered(self, answers: Answers) -> None: ...

    def publishing(self, message: Embedding | Event) -> None: ...
