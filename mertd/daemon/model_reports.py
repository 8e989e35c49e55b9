"""What the embed worker reports, and what follows from it: for the streams, for the service manager, for the daemon."""

from __future__ import annotations

from collections.abc import Sequence

from mertd.daemon.notify import Notifier
from mertd.daemon.observer import Observer
from mertd.daemon.run_state import RunState
from mertd.daemon.streams import Streams
from mertd.embed.messages import Answers, Copied, ModelInfo, Request
from mertd.processes.health import Change
from mertd.vocabulary import EventName, Phase


class ModelReports:
    """The user of the embed worker."""

    def __init__(self, streams: Streams, state: RunState, notifier: Notifier, observer: Observer) -> None:
        self._streams = streams
        self._state = state
        self._notifier = notifier
        self._observer = observer

    def submitting(self, requests: Sequence[Request]) -> None:
        """A batch is about to be given to the process."""
        self._observer.submitting(requests)

    def model_ready(self, model: ModelInfo, previous: ModelInfo | None) -> None:
        """Embed from now on; say so if it is not the backend that was preferred, or not the one that embedded before."""
        if self._state.phase is Phase.STARTING:
            self._state.phase = Phase.RUNNING
        self._notifier.ready()
        backend = model.model.backend
        before = previous.model.backend if previous is not None else ""
        if before != backend and (before or model.rejected):
            reason = model.rejected.get(before) or "; ".join(f"{name}: {why}" for name, why in model.rejected.items())
            detail = {"backend": backend, "previous": before, "reason": reason}
            self._streams.announce(EventName.BACKEND_CHANGED, rejected=dict(model.rejected), **detail)
        self._streams.dispatcher.dispatch()
        self._streams.grant()

    def copied(self, message: Copied) -> None:
        """The windows of a batch are out of the ring."""
        self._streams.dispatcher.copied(message)

    def answered(self, message: Answers, model: ModelInfo) -> None:
        """A batch was embedded."""
        self._observer.answered(message)
        self._streams.dispatcher.answered(message, model)

    def model_lost(self) -> None:
        """What the process was asked must be asked again, or is given up."""
        self._streams.dispatcher.worker_lost()
        self._streams.check_over()

    def cannot_start(self, message: str, exit_code: int) -> None:
        """Stop the daemon: without a model it is useless."""
        self._state.fail(message, exit_code)

    def on_change(self, process: str, change: Change) -> None:
        """Publish the health of the process on every stream."""
        self._streams.on_change(process, change)

    def on_bug(self, error: BaseException) -> None:
        """Stop the daemon: nothing looks after the process any more."""
        self._state.fail_with(error)
