"""Settings for all tests: hypothesis never judges by the clock, since the machines that run this are shared."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("mertd", deadline=None, print_blob=True)
settings.load_profile("mertd")
