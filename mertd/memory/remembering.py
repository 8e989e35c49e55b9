"""The memory as a process that a daemon starts: `main` runs in it. The daemon knows nothing of it but its arguments."""

from __future__ import annotations

import logging
import queue
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mertd.errors import MertdError
from mertd.memory.amounts import parse_keep
from mertd.memory.changes.live_changes import LiveChanges
from mertd.memory.changes.stream_reading import StreamKey
from mertd.memory.changes.stream_window import Change
from mertd.memory.changes.wording import event_detail
from mertd.memory.default_folder import chosen_folder
from mertd.memory.follower import Follower
from mertd.memory.following import Following
from mertd.memory.pages import page, page_since
from mertd.processes.child import Heartbeat, Outbox, begin
from mertd.stream.curve_keys import LOCAL, ClientKeys
from mertd.stream.families import reachable

log = logging.getLogger(__name__)


def main(
    publish: str,
    control: str,
    keys: str,
    memory: str | None,
    keep: str | None,
    boot: bytes,
    told: dict[str, int],
    pipe: Connection,
) -> None:
    """Follow a daemon until it says that this shall end.

    `publish`, `control`: as its sockets are bound. `keys`: folder of the keys, empty without encryption. `memory`: directory,
    None for the default. `keep`: how much to keep, None for everything. `boot`: the daemon's run. `told`: by stream, the last
    window whose changes it has published.
    """
    stopping = threading.Event()
    outbox = Outbox(pipe)
    folder = chosen_folder(memory)
    questions: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()

    def on_message(message: Any) -> None:
        match message:
            case ("history" | "since" as name, *question):
                questions.put((name, *question))
            case ("through", number, ends):
                changes.when_through(ends, lambda: outbox.send(("through", number)))
            case _:
                stopping.set()

    def report(key: StreamKey, found: list[Change]) -> None:
        outbox.send(("changes", key.stream, found[0].seq, [_as_event(change, key) for change in found]))

    changes = LiveChanges(folder, boot, told, report)
    begin(pipe, on_message)
    threading.Thread(target=changes.run, name="changes", daemon=True).start()
    threading.Thread(target=_answer, args=(folder, questions, outbox), name="history", daemon=True).start()
    following = Following(
        folder=folder,
        endpoints=(reachable(publish),),
        controls=(reachable(control),),
        keys=(ClientKeys.load(LOCAL, keys),) if keys else None,
        keep=parse_keep(keep),
    )
    Follower(following, stopping, Heartbeat(outbox), changes.stored).run()


def _as_event(change: Change, key: StreamKey) -> tuple[str, int, int, int, dict[str, Any]]:
    """Return what the daemon publishes of a change: name, epoch, index, time and detail of the event."""
    return change.kind.value, change.epoch, change.index, change.time_ns, event_detail(change, key.space)


def _answer(folder: Path, questions: queue.SimpleQueue[tuple[Any, ...]], outbox: Outbox) -> None:
    """Answer the daemon's questions for messages that it no longer has, one after the other."""
    while True:
        name, number, *wanted = questions.get()
        try:
            found, more = (page if name == "history" else page_since)(folder, *wanted)
        except MertdError as error:
            log.warning("no history from the memory: %s", error)
            outbox.send(("no page", number))
        else:
            outbox.send(("page", number, found, more))
