"""Something that works until it is told to stop, in a thread of a test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from command_process import PATIENCE_S


@contextmanager
def working(run: Callable[[], object], stopping: threading.Event) -> Iterator[None]:
    """Run it until the block ends, and raise what it has raised."""
    failed: list[BaseException] = []

    def work() -> None:
        try:
            run()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    if failed:
        raise failed[0]
