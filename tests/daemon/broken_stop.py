"""`mertd` with a shutdown of which one step raises instead of doing its work: `python broken_stop.py STEP run …`."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> None:
    from mertd.cli import main as mertd
    from mertd.daemon.shutdown import Shutdown, Step

    broken = sys.argv.pop(1)
    add = Shutdown.add

    def add_broken(self: Shutdown, what: str, step: Step) -> None:
        def fail() -> NoReturn:
            raise ZeroDivisionError(f"no {what}")

        add(self, what, fail if what == broken else step)

    Shutdown.add = add_broken  # type: ignore[method-assign]
    mertd()


if __name__ == "__main__":
    main()
