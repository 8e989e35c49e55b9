"""`tap:` sources: what a Mac plays, or one program of it, without a virtual device (macOS 14.2 and later).

The package catap, an optional extra (`pip install 'mertd[tap]'`), binds Core Audio's process taps. A tap may deliver nothing
while nothing plays; when sound comes again, the gap is filled with zeros and counted as missing, like any other. The system
asks once whether audio may be recorded.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from mertd.capture.assembler import Assembler, CallbackBuffer
from mertd.capture.clock_pair import read_clocks
from mertd.capture.limits import BLOCK_S
from mertd.capture.reports import CaptureSettings
from mertd.capture.source import COMPLETE, Block, ZerosExplanation
from mertd.errors import SourceError
from mertd.vocabulary import ZerosCause

CATAP_ERRORS = (OSError, LookupError, RuntimeError, ValueError)
"""The base classes of all errors that catap raises."""


class TapSource:
    """An open tap: of all programs, or of the one named."""

    reopens = False
    end_report = COMPLETE

    def __init__(self, program: str) -> None:
        """Raises `SourceError` without catap, for a program that does not run, or if the system refuses."""
        try:
            import catap
        except ImportError as error:
            raise SourceError(f"tap: needs macOS 14.2 and catap ({error}); pip install 'mertd[tap]' installs it") from error
        self._target = program or "all programs"
        self._assembler: Assembler | None = None
        try:
            if program:
                self._session = catap.record_process(program, on_buffer=self._on_buffer)
            else:
                self._session = catap.record_system_audio(on_buffer=self._on_buffer)
            self._session.start()
            form = self._session.stream_format
        except CATAP_ERRORS as error:
            raise SourceError(f"tap of {self._target}: {error}", retry=True) from error
        if form is None or not form.is_float or form.bits_per_sample != 32:
            self.close()
            raise SourceError(f"tap of {self._target}: unsupported format {form}; expected 32 bit floating point")
        self.rate = round(form.sample_rate)
        self.channels = int(form.num_channels)
        self.description = f"tap of {self._target}, {self.rate} Hz, {self.channels} channels, catap"
        self._assembler = Assembler(self.rate, self.channels, f"tap of {self._target}")

    def _on_buffer(self, buffer: Any) -> None:
        """Queue a buffer; called in catap's thread. Before its format is known the tap does not count as open."""
        if self._assembler is not None:
            self._assembler.add(CallbackBuffer(buffer.data, buffer.frame_count, read_clocks(), 0.0, overflow=False))

    def blocks(self) -> Iterator[Block | None]:
        """Yield blocks as the tap delivers them. Raises `SourceError` when it fails."""
        assembler = self._assembler
        assert assembler is not None
        while True:
            time.sleep(BLOCK_S)
            if self._session.capture_failed:
                raise SourceError(f"tap of {self._target} has failed", retry=True)
            if assembler.has_buffers:
                yield from assembler.blocks()
            else:
                yield None

    def explain_zeros(self) -> ZerosExplanation:
        """Return why only zeros come: a tap without consent delivers zeros, as does a program that plays nothing."""
        hint = f"{self._target} plays nothing, or System Settings, Privacy & Security does not let mertd record audio"
        return ZerosExplanation(ZerosCause.UNKNOWN, hint)

    def close(self) -> None:
        """Remove the tap."""
        self._session.close()


def open_source(settings: CaptureSettings) -> TapSource:
    """Open a `tap:` source. Raises `SourceError`."""
    return TapSource(settings.address.target)
