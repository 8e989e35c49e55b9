"""Entry point of the capture process: opens one source and records it until it ends, breaks, or a stop is requested."""

from __future__ import annotations

import importlib
import os
import traceback
from collections.abc import Callable
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


def record(
    settings: CaptureSettings, ring: Ring, send: Callable[[object], None], control: CaptureControl, close_broken: bool
) -> bool:
    """Open the source, record it until it ends or a stop is requested, and close it. Return whether all went well; what did
    not was reported.

    `close_broken`: close a broken source, too; closing a broken device may hang.
    """
    source: AudioSource | None = None
    try:
        before = read_clocks()
        source = open_source(settings)
        send(Opened(shorten(source.description), source.rate, source.channels))
        Recorder(settings, source, ring, send, control, before).run()
    except MertdError as error:
        retry = isinstance(error, SourceError) and error.retry
        send(CaptureFailed(shorten(str(error)), error.exit_code, retry))
    except Exception:  # noqa: BLE001 - a bug: its traceback must reach the daemon's log
        send(CaptureFailed(shorten(traceback.format_exc()), 1, retry=True))
    else:
        source.close()
        return True
    if source is not None and close_broken:
        source.close()
    return False


def main(settings: CaptureSettings, ring: Ring, pipe: Connection) -> None:
    """Run the process."""
    control = CaptureControl()
    begin(pipe, control.on_message)
    if not record(settings, ring, Outbox(pipe).send, control, close_broken=False):
        os._exit(0)  # PortAudio's exit handler may hang, too; the system releases what it held
