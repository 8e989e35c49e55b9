"""`tap:` sources: what a Mac plays, or one program of it, without a virtual device (macOS 14.2 and later).

Through the package catap, an optional extra (`pip install 'mertd[tap]'`), which binds Core Audio's process taps. A tap may give
nothing while nothing plays; when sound comes again, the gap is filled with zeros and counted as missing, like any other.
The system asks once whether audio may be recorded. **No one has run this file on a Mac.**
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from mertd.capture.address import Address
from mertd.capture.instant import now
from mertd.capture.limits import BLOCK_S
from mertd.capture.portions import Assembler, Portion
from mertd.capture.source import Block, Cause
from mertd.errors import SourceError

FAULTS = (OSError, LookupError, RuntimeError, ValueError)
"""What catap raises: each of its own errors derives from one of these."""


class TapSource:
    """An open tap: of all programs, or of the one named."""

    reopens = False

    def __init__(self, address: Address) -> None:
        """Raises `SourceError` without catap, for a program that is not there, or if the system refuses."""
        try:
            import catap
        except ImportError as error:
            raise SourceError(f"tap: needs macOS 14.2 and catap ({error}); pip install 'mertd[tap]' brings it") from error
        self._queue: deque[Portion] = deque()
        self._what = address.target or "all programs"
        try:
            if address.target:
                self._session = catap.record_process(address.target, on_buffer=self._on_buffer)
            else:
                self._session = catap.record_system_audio(on_buffer=self._on_buffer)
            self._session.start()
            form = self._session.stream_format
        except FAULTS as error:
            raise SourceError(f"tap of {self._what}: {error}", retry=True) from error
        if form is None or not form.is_float or form.bits_per_sample != 32:
            self.close()
            raise SourceError(f"tap of {self._what}: gives {form}, wanted 32 bit floating point")
        self.rate, self.channels = round(form.sample_rate), int(form.num_channels)
        self.description = f"tap of {self._what}, {self.rate} Hz, {self.channels} channels, catap"
        self._assembler = Assembler(self.rate, self.channels, f"tap of {self._what}")

    def _on_buffer(self, buffer: Any) -> None:
        """Runs in catap's thread: keep and return."""
        self._queue.append(Portion(buffer.data, buffer.frame_count, now(), 0.0, False))

    def blocks(self) -> Iterator[Block | None]:
        while True:
            time.sleep(BLOCK_S)
            if self._session.capture_failed:
                raise SourceError(f"tap of {self._what} has failed", retry=True)
            if self._queue:
                yield from self._assembler.blocks([self._queue.popleft() for _ in range(len(self._queue))])
            else:
                yield None

    def why_zeros(self) -> Cause:
        """A tap that may not hear gives zeros, as does a program that plays nothing."""
        hint = f"{self._what} plays nothing, or System Settings, Privacy & Security does not let mertd record audio"
        return Cause("unknown", hint)

    def close(self) -> None:
        """Remove the tap."""
        self._session.close()
