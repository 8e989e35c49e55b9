"""The commands: the only place that prints, exits, and turns errors into exit codes.

0 done; 1 a bug; 2 wrong usage or configuration; 3 could not start, or could not go on.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Entry point. Nothing is imported before it runs: child processes import this module too."""
    # numpy's idle threads are to sleep at once: by default they spin for a tenth of a second, in child processes too.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    if sys.argv[1:2] == ["run"]:  # who is told to stop before the daemon can listen for it is to stop in order all the same
        import signal

        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    from mertd.cli.app import run

    sys.exit(run(sys.argv[1:]))
