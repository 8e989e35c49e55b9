"""The status of the captured input according to PulseAudio, or PipeWire in its place."""

from __future__ import annotations

import os
from collections.abc import Callable

from mertd.capture.input_status import InputStatus, InputStatusUnavailable


def open_reader() -> Callable[[], InputStatus]:
    """Connect to the sound server and return a function that reads the status, for this thread only.

    Both raise `InputStatusUnavailable`.
    """
    try:
        import pulsectl
    except (ImportError, OSError) as error:  # it loads libpulse
        raise InputStatusUnavailable(str(error)) from error
    errors = (pulsectl.PulseError, OSError)
    server = pulsectl.Pulse("mertd", connect=False)
    try:
        server.connect(autospawn=False)  # a server that hangs blocks this thread only
    except errors as error:
        server.close()
        raise InputStatusUnavailable(str(error)) from error

    def read() -> InputStatus:
        try:
            default = server.server_info().default_source_name
            own = [o for o in server.source_output_list() if o.proplist.get("application.process.id") == str(os.getpid())]
            source = next((s for s in server.source_list() if own and s.index == own[0].source), None)
            if source is None:  # no stream yet, or it is being moved
                return InputStatus(default)
            muted = bool(source.mute or own[0].mute or not source.volume.value_flat)
            idle = None
            if source.monitor_of_sink_name:
                sink = source.monitor_of_sink
                idle = not any(i.sink == sink and not i.corked for i in server.sink_input_list())
        except errors as error:
            server.close()
            raise InputStatusUnavailable(str(error)) from error
        return InputStatus(default, source.name, muted=muted, idle=idle)

    return read
