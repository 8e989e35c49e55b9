"""Clients that were not let in: counted by reason, and logged once for each key."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, OrderedDict

log = logging.getLogger(__name__)

REMEMBERED = 1_024
"""Keys whose rejection was already logged."""

FORGET_S = 3_600.0
"""Seconds after which the rejection of a key is logged again."""

HINTS = {
    "unknown_key": "its key is not on the list; `mertd keys allow NAME %s` allows it",
    "no_key": "it has no key, or does not speak CURVE",
    "wrong_server_key": "it expects another server key than this daemon's, or does not speak CURVE",
    "unfinished": "it disconnected before it had proven its identity, as clients without a key do",
    "malformed": "it does not follow the protocol",
}
"""What to say of each reason."""


class Rejections:
    """Counts and log lines. Its memory is bounded, however many keys are tried. Safe for use by several threads."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._logged: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, reason: str, domain: str, key: str = "", address: str = "") -> None:
        """Count a rejection. `key`: public, if it is known."""
        with self._lock:
            self.counts[reason] += 1
            now, who = time.monotonic(), (reason, domain, key)
            if now - self._logged.get(who, -FORGET_S) < FORGET_S:
                return
            self._logged[who] = now
            self._logged.move_to_end(who)
            if len(self._logged) > REMEMBERED:
                self._logged.popitem(last=False)
        hint = HINTS[reason] % _word(key) if "%s" in HINTS[reason] else HINTS[reason]
        log.warning("a client%s was rejected on the %s socket: %s", f" at {address}" if address else "", domain, hint)


def _word(key: str) -> str:
    """Return a key as a shell takes it, behind `--` if it would be an option; those of `mertd keys new` never would."""
    return f"-- {key!r}" if key.startswith("-") else repr(key)
