"""What PulseAudio, or PipeWire in its place, says of the source that this process hears."""

from __future__ import annotations

import os
from collections.abc import Callable

from mertd.capture.outlook import LookError, Outlook


def open_look() -> Callable[[], Outlook]:
    """A connection to the sound server, to be used in this thread only. Raises `LookError` if there is none."""
    try:
        import pulsectl
    except (ImportError, OSError) as error:  # it loads libpulse
        raise LookError(str(error)) from error
    errors = (pulsectl.PulseError, OSError)
    server = pulsectl.Pulse("mertd", connect=False)
    try:
        server.connect(autospawn=False)  # a server that hangs holds up this thread only
    except errors as error:
        server.close()
        raise LookError(str(error)) from error

    def look() -> Outlook:
        try:
            default = server.server_info().default_source_name
            mine = [o for o in server.source_output_list() if o.proplist.get("application.process.id") == str(os.getpid())]
            if not mine:
                return Outlook(default)
            source = next((s for s in server.source_list() if s.index == mine[0].source), None)
            if source is None:  # it is being moved
                return Outlook(default)
            muted = bool(source.mute or mine[0].mute or not source.volume.value_flat)
            idle = None
            if source.monitor_of_sink_name:
                sink = source.monitor_of_sink
                idle = not any(i.sink == sink and not i.corked for i in server.sink_input_list())
        except errors as error:
            server.close()
            raise LookError(str(error)) from error
        return Outlook(default, source.name, muted=muted, idle=idle)

    return look
