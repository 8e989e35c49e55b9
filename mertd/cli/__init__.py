"""The commands: the only place that prints, exits, and turns errors into exit codes.

0 done; 1 a bug; 2 wrong usage or configuration; 3 could not start, or could not go on.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point. Nothing is imported before it runs: child processes import this module too."""
    from mertd.cli.app import run

    sys.exit(run(sys.argv[1:]))
