"""Entry point of the capture process: opens one source and records it until it ends, breaks, or a stop is requested."""

from __future__ import annotations

import importlib
import os
import traceback
from multiprocessing.connection import Connection

from mertd.capture.clock_pair import read_clocks
from mertd.capture.limits import check_format
from mertd.capture.recorder import CaptureControl, Recorder
from mertd.capture.reports import CaptureFailed, CaptureSettings, Opened
from mertd.capture.source import AudioSource
from mertd.capture.source_kinds import KINDS
from mertd.errors import MertdError, SourceError
from mertd.processes.child import Outbox, begin
from mertd.ring import Ring
from mertd.text import shorten


def open_source(settings: CaptureSettings) -> AudioSource:
    """Open the source that the address names. Raises `SourceError`."""
    module = importlib.import_module(f"mertd.capture.sources.{KINDS[settings.address.kind].module}")
    source: AudioSource = module.open_source(settings)
    try:
        check_format(source.rate, source.channels)
    except SourceError as error:
        source.close()
        raise SourceError(f"{settings.address}: {error}", error.retry) from error
    return source


def main(settings: CaptureSettings, ring: Ring, pipe: Connection) -> None:
    """Run the process."""
    control = CaptureControl()
    begin(pipe, control.on_message)
    outbox = Outbox(pipe)
    try:
        before = read_clocks()
        source = open_source(settings)
        outbox.send(Opened(shorten(source.description), source.rate, source.channels))
        Recorder(settings, source, ring, outbox.send, control, before).run()
    except MertdError as error:
        retry = isinstance(error, SourceError) and error.retry
        outbox.send(CaptureFailed(shorten(str(error)), error.exit_code, retry))
    except Exception:  # noqa: BLE001 - a bug: its traceback must reach the daemon's log
        outbox.send(CaptureFailed(shorten(traceback.format_exc()), 1, retry=True))
    else:
        source.close()
        return
    os._exit(0)  # closing a broken device may hang, as may PortAudio's exit handler; the system releases what they held
