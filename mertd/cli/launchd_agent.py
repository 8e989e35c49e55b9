"""`python -m mertd.cli.launchd_agent LOG run OPTIONS` is `mertd run OPTIONS` as launchd runs it.

launchd knows no exit code after which a program is not to be started again, but 0. A wrong configuration stays wrong, so exit
code 2 becomes 0 here, and a line of the log says so. The log is kept small as well.
"""

from __future__ import annotations

import sys

WRONG_USAGE = 2
"""Exit code of mertd for wrong options or a wrong configuration."""


def main() -> None:
    """Run `mertd` with the words behind the path of the log."""
    from mertd.safe_path import leave_out_working_directory

    leave_out_working_directory()
    import signal
    from pathlib import Path

    # Before the thread of the log begins: a signal that comes this early must wait for the daemon, as in `mertd.cli.main`.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    from mertd.cli import main as run
    from mertd.service.log_rotation import keep_log_small

    keep_log_small(Path(sys.argv.pop(1)))
    try:
        run()
    except SystemExit as exiting:
        if exiting.code != WRONG_USAGE:
            raise
        from mertd.cli.output import complain

        complain("the configuration is wrong, so launchd does not start mertd again; correct it, then: mertd service start")
        sys.exit(0)


if __name__ == "__main__":
    main()
