"""Settings for all tests: hypothesis' profiles, chosen with HYPOTHESIS_PROFILE.

No profile has a deadline, because the machines that run the tests are shared, and none is derandomised: every run tries other
examples, and a failure prints how to repeat it.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("fast", deadline=None, derandomize=False, print_blob=True, max_examples=30)
settings.register_profile("ci", deadline=None, derandomize=False, print_blob=True, max_examples=300)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))
