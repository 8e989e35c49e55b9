"""SIGHUP: read the configuration again and change what can change in a running daemon."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from mertd.config import Settings, changes
from mertd.daemon.notify import Notifier
from mertd.daemon.streams import Streams
from mertd.defaults import SAMPLE_RATE
from mertd.errors import MertdError
from mertd.logs import set_level
from mertd.vocabulary import EventName

log = logging.getLogger(__name__)


class Reloader:
    """Compares the settings in use with new ones, and applies the difference."""

    def __init__(self, settings: Settings, reread: Callable[[], Settings] | None, streams: Streams, notifier: Notifier) -> None:
        """`settings`: in use. `reread`: returns the settings as they would be now; without it nothing ever differs."""
        self._settings = settings
        self._reread = reread
        self._streams = streams
        self._notifier = notifier

    def reload(self) -> None:
        """Change what can change, name what needs a restart, and say so on every stream."""
        self._notifier.reloading()
        detail: dict[str, Any] = {"changed": [], "restart": [], "error": ""}
        try:
            new = self._reread() if self._reread is not None else self._settings
        except MertdError as error:
            detail["error"] = str(error)
            log.error("the configuration stays as it is: %s", error)
        else:
            live, detail["restart"] = changes(self._settings, new)
            for name, value in live.items():
                try:
                    self._apply(name, value)
                except ValueError as error:
                    detail["error"] = f"{name}: {error}"
                else:
                    detail["changed"].append(name)
            if detail["restart"]:
                log.warning("these settings need a restart: %s", ", ".join(detail["restart"]))
        self._streams.announce(EventName.RELOADED, **detail)
        self._notifier.reloaded()

    def _apply(self, name: str, value: Any) -> None:
        """Change one setting. Raises `ValueError` for a hop that does not fit the ring."""
        match name:
            case "hop":
                for stream in self._streams.values():
                    stream.timeline.change(hop=round(value * SAMPLE_RATE))
            case "gate":
                for stream in self._streams.values():
                    stream.timeline.change(gate_dbfs=value)
            case "log_level":
                set_level(value)
        self._settings = self._settings.model_copy(update={name: value})
