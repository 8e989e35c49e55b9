"""The closed sets of words on the wire: events, states, phases, reasons, requests.

Rules of this file: it imports nothing of mertd, and holds nothing but enumerations. Each word appears in the code only here.
Tests compare the protocol page and the JSON schema with these enumerations. A member is a `str`, so it compares equal to its
word; `str(member)` and `member.value` are the plain word, which is what goes into a message.
"""

from __future__ import annotations

from enum import StrEnum


class EventName(StrEnum):
    """What an event of a stream reports: `Event.event`."""

    STARTED = "started"  # the source is open for the first time
    EPOCH = "epoch"  # the samples before and after do not belong together; `reason` is an `EpochReason`
    DEVICE_LOST = "device_lost"  # the source is gone and will be opened again
    DEVICE_BACK = "device_back"  # the source is open again after `device_lost`
    OVERFLOW = "overflow"  # audio was lost on the way in and replaced by zeros; `reason` lists `GapReason`s
    ZEROS = "zeros"  # the source has delivered only zeros for 10 s; `cause` is a `ZerosCause`
    ZEROS_OVER = "zeros_over"  # the source delivers sound again after `zeros`
    SILENT = "silent"  # a window was below the gate and is not embedded
    SKIPPED = "skipped"  # windows that were due will not be embedded; `reason` is a `SkipReason`
    HEALTH = "health"  # a child process has changed its `HealthState`
    BACKEND_CHANGED = "backend_changed"  # another backend computes from now on
    CHANGED = "changed"  # hop or gate were set
    CHANGE = "change"  # the sound changed, as the process that remembers has found
    RETURN = "return"  # with this change it came back to what it was like before
    RELOADED = "reloaded"  # the configuration was read again
    PAUSED = "paused"  # the source was closed on request
    RESUMED = "resumed"  # the source was opened again on request
    ENDED = "ended"  # the audio is over
    FAILED = "failed"  # the source is gone and cannot be opened again
    STOPPING = "stopping"  # the daemon is stopping
    HOLE = "hole"  # on the bus only: messages of the stream are gone for good; `reason` is a `HoleCause`


class StreamState(StrEnum):
    """What a stream is doing: `status.streams.*.state`."""

    OPENING = "opening"  # its source is being opened for the first time, or after a pause
    LISTENING = "listening"  # its source is open
    LOST = "lost"  # its source is gone and will be opened again
    PAUSED = "paused"  # its source was closed on request
    ENDED = "ended"  # its audio is over
    FAILED = "failed"  # its source could not be opened, or is gone for good


class SkipReason(StrEnum):
    """Why due windows are not embedded: `detail.reason` of `skipped`."""

    LATE = "late"  # a newer window was due while they waited for the model
    OVERWRITTEN = "overwritten"  # the ring no longer held their samples
    FAILED = "failed"  # the model could not embed them


class EpochReason(StrEnum):
    """Why a new epoch begins: `detail.reason` of `epoch`."""

    RESTART = "restart"  # the capture process was replaced
    RESUMED = "resumed"  # the stream was paused in between
    CLOCK = "clock"  # wall time jumped: the machine slept, or the clock was set


class GapReason(StrEnum):
    """Why samples are zeros in place of audio: joined with ", " in `detail.reason` of `overflow`."""

    LOST = "lost"  # the source or the system dropped them
    NOT_FINITE = "not finite"  # the source delivered infinities or NaN


class HoleCause(StrEnum):
    """Why messages are not on the bus and never will be: `detail.reason` of `hole`."""

    MISSED = "missed"  # the daemon no longer had them
    TOO_LARGE = "too large"  # the bus does not take messages of this size


class ZerosCause(StrEnum):
    """The likeliest reason why a source delivers only zeros: `detail.cause` of `zeros`."""

    NO_CONSENT = "no_consent"  # the system does not let this program use microphones
    MUTED = "muted"  # the device is muted, or its volume is 0
    IDLE_MONITOR = "idle_monitor"  # it records an output into which nothing plays
    OTHER_CHANNEL = "other_channel"  # the channel that `mix` selects is silent, others are not
    UNKNOWN = "unknown"  # none of these is known to be true


class Phase(StrEnum):
    """What the daemon is doing: `status.phase`."""

    STARTING = "starting"  # until the model is ready for the first time
    RUNNING = "running"  # windows are embedded as they become due
    REPLAYING = "replaying"  # this is no daemon: what a memory holds is published again
    STOPPING = "stopping"  # no more windows are embedded


class HealthState(StrEnum):
    """How a child process is doing: `status.processes.*.state`, `detail.state` and `detail.previous` of `health`.

    A capture process whose stream is ended or paused shows that `StreamState` in its place.
    """

    HEALTHY = "healthy"  # ready, and it reported lately
    SUSPECT = "suspect"  # ready, but without a report or an answer for longer than expected
    RECOVERING = "recovering"  # no process is ready: one is starting, or will be started
    FAILED = "failed"  # it crashed several times in a row, or cannot be started again


class RequestName(StrEnum):
    """What a client may ask on the control socket: `request`."""

    STATUS = "status"  # the counters of the daemon, its streams and its processes
    HISTORY = "history"  # messages published earlier
    NOW = "now"  # embed the newest window at once
    PAUSE = "pause"  # close the source of a stream
    RESUME = "resume"  # open it again
    SET = "set"  # change hop or gate
    SHUTDOWN = "shutdown"  # stop the daemon
