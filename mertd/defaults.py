"""Numbers and addresses on which several parts of mertd agree, each in one place.

Rules of this file: it imports nothing, so that `mertd --help` can afford it.
"""

PUBLISH_ENDPOINT = "tcp://127.0.0.1:5590"
"""Where a daemon publishes by default."""

CONTROL_ENDPOINT = "tcp://127.0.0.1:5591"
"""Where a daemon answers requests by default."""

REPLAY_PUBLISH_ENDPOINT = "tcp://127.0.0.1:5594"
"""Where a replay publishes by default: not where a daemon does, so that nobody takes one for the other."""

REPLAY_CONTROL_ENDPOINT = "tcp://127.0.0.1:5595"
"""Where a replay answers requests by default."""

VIEW_ADDRESS = "127.0.0.1:5592"
"""Where the page of `mertd view` is by default."""

SAMPLE_RATE = 24_000
"""Samples a second that MERT reads, and so of every index on the wire, in Hz."""

WINDOW_S = 30.0
"""Seconds of audio in a window."""

HOP_S = 5.0
"""Seconds between the starts of two windows."""

MIN_HOP_S = 0.25
"""Seconds; a shorter hop is refused."""

MAX_HOP_S = 3_600.0
"""Seconds; a longer hop is refused."""

GATE_DBFS = -70.0
"""Level below which a window is not embedded, in dBFS."""

WITHIN_S = 600.0
"""Seconds by which one stream may hear a sound later than another, where the same sound is looked for."""

LAYER = 6
"""The hidden state that is published."""
