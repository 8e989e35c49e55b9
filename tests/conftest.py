"""Settings for all tests: hypothesis' profiles, chosen with HYPOTHESIS_PROFILE.

`fast` is for the fast loop and `ci` for a thorough run. `seeds` is for many short runs, each with another seed (see
many_seeds.py): it neither keeps examples that failed nor tries them again.

No profile has a deadline, because the machines that run the tests are shared, and none is derandomised: every run tries other
examples, and a failure prints how to repeat it.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("fast", deadline=None, derandomize=False, print_blob=True, max_examples=30)
settings.register_profile("ci", deadline=None, derandomize=False, print_blob=True, max_examples=300)
settings.register_profile("seeds", deadline=None, derandomize=False, print_blob=True, max_examples=15, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))
