"""The commands: the only place that prints, exits, and turns errors into exit codes.

Exit codes: 0 done; 1 a bug; 2 wrong usage or configuration; 3 could not start, or could not go on.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line. It imports everything itself, because child processes import this module too."""
    from mertd.safe_path import leave_out_working_directory

    leave_out_working_directory()
    from mertd.cli.standard_streams import open_standard_streams

    open_standard_streams()
    from mertd.embed import threads

    # Let numpy's idle threads sleep at once, in child processes too: by default they spin for a tenth of a second.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    threads.limit_blas(threads.choose(threads.asked_on(sys.argv[1:])).count)  # read when numpy is loaded, with the commands
    if sys.argv[1:2] == ["run"]:  # a signal that comes before the daemon can handle it must still stop it in order
        import signal

        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    from mertd.cli.app import run

    sys.exit(run(sys.argv[1:]))
