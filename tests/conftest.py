"""Settings for all tests: hypothesis' profiles, chosen with HYPOTHESIS_PROFILE.

`fast` is for the fast loop and `ci` for a thorough run. `seeds` is for many short runs, each with another seed (see
many_seeds.py): it neither keeps examples that failed nor tries them again.

With AS_ON_A_MAC set, this process and all that it starts behave as on a Mac (as_mac/sitecustomize.py), and tests marked `linux`
are left out.

No profile has a deadline, because the machines that run the tests are shared, and none is derandomised: every run tries other
examples, and a failure prints how to repeat it.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

AS_ON_A_MAC = bool(os.environ.get("AS_ON_A_MAC"))

if AS_ON_A_MAC:  # before anything of mertd is imported
    folder = str(Path(__file__).with_name("as_mac"))
    if folder not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH", ""))))
    # Byte code of its own: the same source is another program here, and each version of that file makes another one of it.
    version = hashlib.sha256(Path(folder, "sitecustomize.py").read_bytes()).hexdigest()[:8]
    sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = (
        f"{tempfile.gettempdir()}/mertd-as-on-a-mac-{os.getuid()}-{version}"
    )
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or every process would compile all of it
    sys.dont_write_bytecode = False
    sys.path.insert(0, folder)
    import sitecustomize

    sitecustomize.install()

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("fast", deadline=None, derandomize=False, print_blob=True, max_examples=30)
settings.register_profile("ci", deadline=None, derandomize=False, print_blob=True, max_examples=300)
settings.register_profile("seeds", deadline=None, derandomize=False, print_blob=True, max_examples=15, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


# What can be made again is not that of the user who runs the tests: a note of a passed check would hide a fault. matplotlib's
# list of fonts takes seconds to make.
os.environ.setdefault("MPLCONFIGDIR", str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "matplotlib")))
CACHE_PREFIX = "mertd-cache-"
if not Path(os.environ.get("XDG_CACHE_HOME", "")).name.startswith(CACHE_PREFIX):  # xdist's workers and many_seeds.py have one
    CACHE = tempfile.TemporaryDirectory(prefix=CACHE_PREFIX)
    os.environ["XDG_CACHE_HOME"] = CACHE.name


def pytest_configure() -> None:
    """What tests start must not ignore Ctrl-C, Ctrl-\\ and hang-ups, even if the tests run in the background, or under nohup.

    An ignored signal stays ignored in a new program, a caught one does not.
    """
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """As on a Mac, leave out what is about Linux."""
    if AS_ON_A_MAC:
        left_out = [item for item in items if item.get_closest_marker("linux")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("linux")]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """A test that leaves a child process fails: in another test, that child would end whenever it likes."""
    yield
    left = multiprocessing.active_children()
    for child in left:
        child.kill()
        child.join()
    if left:
        pytest.fail(f"{item.nodeid} left {', '.join(child.name for child in left)}", pytrace=False)
