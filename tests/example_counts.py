"""How many examples a property test tries if it needs another number than its profile gives."""

from __future__ import annotations

from hypothesis import settings

FAST_SHARE = 5
"""The fast profile tries one in so many of the examples that CI tries, but at least MIN_EXAMPLES."""

MIN_EXAMPLES = 10
"""Examples that the fast profile tries at least."""

SEED_EXAMPLES = 15
"""Examples that one of many runs tries at most, each of which has another seed."""


def examples(in_ci: int) -> int:
    """Return the number for the current profile. `in_ci`: examples that CI tries in each run."""
    profile = settings.get_current_profile_name()
    if profile == "ci":
        return in_ci
    if profile == "seeds":
        return min(in_ci, SEED_EXAMPLES)
    return min(in_ci, max(MIN_EXAMPLES, in_ci // FAST_SHARE))
