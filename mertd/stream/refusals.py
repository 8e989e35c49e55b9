"""A client's view of its handshakes: does the daemon refuse it, or does it refuse the daemon?

Rules of this file: no asyncio, which costs `mertd tail` a tenth of a second.
"""

from __future__ import annotations

from typing import Any

import zmq

from mertd.errors import EndpointError
from mertd.stream.monitor import FAILED, MISMATCH, Monitor

BROKEN_OFF_LIMIT = 5
"""Consecutive handshakes that the other end breaks off before that is taken for its answer, and not for an accident."""


class Refusals:
    """Watches the handshakes of one socket."""

    def __init__(
        self, context: zmq.Context[Any], watched: zmq.Socket[Any], endpoint: str, with_keys: bool, report_broken_off: bool
    ) -> None:
        """`report_broken_off`: also take it for a refusal if the other end breaks off `BROKEN_OFF_LIMIT` handshakes. Until the
        first handshake has succeeded, that is always a refusal.
        """
        events = FAILED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_SUCCEEDED
        self._monitor = Monitor(context, watched, events)
        self._endpoint = endpoint
        self._with_keys = with_keys
        self._report_broken_off = report_broken_off
        self._broken_off = 0
        self.connected = False  # a handshake has succeeded
        self.socket = self._monitor.socket

    def check(self) -> None:
        """Read what has happened. Raises `EndpointError` if the daemon refuses this client, or this client the daemon."""
        for event, value in self._monitor.waiting():
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._broken_off = 0
                self.connected = True
            elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                raise EndpointError(
                    f"the daemon at {self._endpoint} refuses this key; run `mertd keys allow NAME PUBLIC` there to allow it"
                )
            elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and value == MISMATCH:
                raise self._mismatch()
            else:  # the end that notices first breaks off, and the other one sees no more than that
                self._broken_off += 1
                is_refusal = self._report_broken_off or not self.connected
                if is_refusal and self._broken_off == BROKEN_OFF_LIMIT:
                    raise self._broken_off_again()

    def _mismatch(self) -> EndpointError:
        if self._with_keys:
            return EndpointError(
                f"the program at {self._endpoint} has no encryption, so nothing was sent to it; if it is a mertd, start it "
                "with --curve"
            )
        return EndpointError(
            f"the daemon at {self._endpoint} wants a key: pass --key NAME, or keys=ClientKeys.load(NAME) in Python"
        )

    def _broken_off_again(self) -> EndpointError:
        if self._with_keys:
            return EndpointError(
                f"the program at {self._endpoint} breaks off the handshake: its key is not the one that was given, or it has "
                "no encryption; `mertd keys show` there prints its key"
            )
        return EndpointError(
            f"the program at {self._endpoint} breaks off the handshake, as a daemon does that wants a key: pass --key NAME, or "
            "keys=ClientKeys.load(NAME) in Python"
        )

    def close(self) -> None:
        self._monitor.close()
