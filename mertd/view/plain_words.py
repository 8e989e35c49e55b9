"""States, levels, delays and faults in words that need no glossary.

Rules of this file: pure functions. What is returned is text, with foreign text in it as it came: it is shown as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mertd.vocabulary import EpochReason, EventName, HealthState, Phase, SkipReason, StreamState, ZerosCause
from mertd.wire import Event

STATES = {
    StreamState.OPENING: "Opening the source",
    StreamState.LISTENING: "Listening",
    StreamState.LOST: "The source is gone; looking for it",
    StreamState.PAUSED: "Paused on request",
    StreamState.ENDED: "The audio is over",
    StreamState.FAILED: "The source cannot be opened",
}
"""States of streams."""

TONES = {
    StreamState.LISTENING: "good",
    StreamState.LOST: "bad",
    StreamState.FAILED: "bad",
}
"""How states are coloured; all others are neither good nor bad."""

PHASES = {
    Phase.STARTING: "starting: the model is not ready yet",
    Phase.RUNNING: "running",
    Phase.REPLAYING: "replaying what was remembered; nothing of it is live",
    Phase.STOPPING: "stopping",
}
"""Phases of daemons."""

CAUSES = {
    ZerosCause.NO_CONSENT: "the system does not let mertd use the microphone",
    ZerosCause.MUTED: "the device is muted, or its volume is 0",
    ZerosCause.IDLE_MONITOR: "nothing plays into the output that is recorded",
    ZerosCause.OTHER_CHANNEL: "the chosen channel is silent, others are not",
}
"""Why only digital zeros are heard."""

SKIPS = {
    SkipReason.LATE: "the model was not free in time",
    SkipReason.OVERWRITTEN: "the audio was overwritten before the model was free",
    SkipReason.FAILED: "the model could not embed it",
}
"""Why windows are skipped."""

QUIET_DBFS = -45.0
"""Levels below this are called quiet."""

LOUD_DBFS = -12.0
"""Levels above this are called loud."""

SILENT_DBFS = -70.0
"""Levels below this are called silent."""

FULL_SCALE_DBFS = -0.1
"""Peaks above this are called too loud."""

SLOW_S = 15.0
"""Delays above this are called late."""


def word_of(table: Mapping[Any, str], key: object, otherwise: str) -> str:
    """Return what a table says of a word that a daemon sent, which may be anything."""
    return table.get(key, otherwise) if isinstance(key, str) else otherwise


def state_words(state: str, problem: str) -> str:
    """Return what a stream is doing."""
    words = word_of(STATES, state, state)
    return f"{words}: {problem}" if problem else words


def level_words(rms_dbfs: float, peak_dbfs: float | None = None) -> str:
    """Return how loud it is."""
    if peak_dbfs is not None and peak_dbfs > FULL_SCALE_DBFS:
        return "too loud: it clips"
    if rms_dbfs < SILENT_DBFS:
        return "silent"
    if rms_dbfs < QUIET_DBFS:
        return "quiet"
    return "loud" if rms_dbfs > LOUD_DBFS else "good level"


def delay_words(seconds: float) -> str:
    """Return how long after its sound a vector came."""
    if seconds > SLOW_S:
        return f"{seconds:.0f} s after the sound: the model hardly keeps up"
    return f"{seconds:.1f} s after the sound" if seconds >= 0.95 else f"{seconds * 1000:.0f} ms after the sound"


def skipped_words(skipped: int, due: int) -> str:
    """Return how many windows were lost."""
    if not skipped:
        return "none skipped"
    return f"{skipped:,} of {due:,} windows skipped ({skipped / due:.1%})" if due > 0 else f"{skipped:,} windows skipped"


def event_words(message: Event) -> tuple[str, str]:
    """Return how an event is marked, as `fault`, `mark` or `note`, and what has happened."""
    detail = message.detail
    match message.event:
        case EventName.CHANGE:
            return "mark", f"The sound changed (strength {_number(detail, 'strength'):.2f})"
        case EventName.RETURN:
            return "mark", f"The sound came back to an earlier one (similarity {_number(detail, 'similarity'):+.2f})"
        case EventName.DEVICE_LOST:
            return "fault", f"The source is gone: {detail.get('message', 'no reason given')}"
        case EventName.FAILED:
            return "fault", f"The source cannot be opened again: {detail.get('message', 'no reason given')}"
        case EventName.OVERFLOW:
            return "fault", f"Audio was lost on the way in ({_number(detail, 'missing'):,.0f} samples)"
        case EventName.ZEROS:
            cause = word_of(CAUSES, detail.get("cause"), "the reason is not known")
            return "fault", f"Only digital silence: {cause}"
        case EventName.SKIPPED:
            reason = word_of(SKIPS, detail.get("reason"), str(detail.get("reason")))
            return "fault", f"{_number(detail, 'windows'):.0f} windows skipped: {reason}"
        case EventName.HEALTH if detail.get("state") != HealthState.HEALTHY:
            return "fault", f"Process {detail.get('process')} is {detail.get('state')}: {detail.get('reason')}"
        case EventName.BACKEND_CHANGED:
            return "fault", f"{detail.get('backend')} computes now in place of {detail.get('previous')}: {detail.get('reason')}"
        case EventName.EPOCH if detail.get("reason") == EpochReason.CLOCK:
            return "note", "The clock jumped, or the machine slept"
    return "note", word_of(NOTES, message.event, message.event)


NOTES = {
    EventName.STARTED: "The source was opened",
    EventName.EPOCH: "A new stretch of audio begins",
    EventName.DEVICE_BACK: "The source is back",
    EventName.ZEROS_OVER: "There is sound again",
    EventName.SILENT: "Too quiet to embed",
    EventName.HEALTH: "A process is healthy again",
    EventName.CHANGED: "Hop or gate were set",
    EventName.RELOADED: "The configuration was read again",
    EventName.PAUSED: "Paused",
    EventName.RESUMED: "Resumed",
    EventName.ENDED: "The audio is over",
    EventName.STOPPING: "The daemon stops",
}
"""What has happened, where the name of the event says enough."""


def _number(detail: Mapping[str, Any], key: str) -> float:
    """Return a number of what a daemon sent, which may be anything."""
    value = detail.get(key)
    return float(value) if isinstance(value, int | float) else 0.0
