"""What the system says about the input that is being captured: which one it is, whether it is muted, whether mertd may use it.

Rules of this file: it asks nothing; `coreaudio` and `pulseaudio` do. What is not known is not claimed.
"""

from __future__ import annotations

from dataclasses import dataclass

from mertd.capture.source import ZerosExplanation
from mertd.vocabulary import ZerosCause


class InputStatusUnavailable(Exception):  # noqa: N818 - it is no failure of mertd: many systems cannot tell
    """The system does not tell the status of an input, now or ever."""


@dataclass(frozen=True)
class InputStatus:
    """The status of an input; empty, 0 or None for what is not known."""

    default: str = ""  # name of the system's default input
    source: str = ""  # name of the input that is captured
    rate: int = 0  # Hz, of that input
    muted: bool | None = None  # or its volume is 0
    idle: bool | None = None  # it is the monitor of an output into which nothing plays
    consent: bool | None = None  # this program may use microphones


def describe_change(before: InputStatus, now: InputStatus, follows_default: bool) -> str:
    """Return what has become of the input, in words; empty if it is the same."""
    if before.source and now.source and before.source != now.source:
        return f"the system has moved the stream from {before.source!r} to {now.source!r}"
    if follows_default and before.default and now.default and before.default != now.default:
        return f"the default input has changed from {before.default!r} to {now.default!r}"
    if before.rate and now.rate and before.rate != now.rate:
        return f"the rate of {now.source!r} has changed from {before.rate} to {now.rate} Hz"
    if now.consent and not before.consent:  # a stream that is open already may stay silent
        return "this program may use microphones now"
    return ""


def fill_in(first: InputStatus, now: InputStatus) -> InputStatus:
    """Return the first known value of each field that `describe_change` compares, and the first consent, known or not.

    A stream may appear at the sound server later than the device was opened.
    """
    names = first.default or now.default, first.source or now.source
    return InputStatus(*names, first.rate or now.rate, consent=first.consent)


def explain_zeros(status: InputStatus) -> ZerosExplanation:
    """Return the likeliest reason why the input delivers only zeros."""
    name = repr(status.source) if status.source else "the device"
    if status.consent is False:
        return ZerosExplanation(
            ZerosCause.NO_CONSENT,
            "the system does not let this program use microphones; allow it in System Settings, Privacy & Security, Microphone",
        )
    if status.muted:
        hint = f"{name} is muted, or its volume is 0; see the system's sound settings (pactl set-source-mute)"
        return ZerosExplanation(ZerosCause.MUTED, hint)
    if status.idle:
        return ZerosExplanation(ZerosCause.IDLE_MONITOR, f"{name} records what an output plays, and nothing is playing")
    return ZerosExplanation(
        ZerosCause.UNKNOWN,
        f"{name} delivers only zeros: it is broken, switched off or silent, or mertd is not allowed to use it",
    )
