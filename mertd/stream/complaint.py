"""A fault that goes on, and is logged once."""

from __future__ import annotations

import logging

from mertd.text import printable


class Complaint:
    """What is wrong at present; it is true while anything is.

    Attributes:
        text: what is wrong, as it was said; empty if nothing is.
    """

    def __init__(self, log: logging.Logger, level: int = logging.ERROR) -> None:
        self.text = ""
        self._log, self._level = log, level

    def __bool__(self) -> bool:
        return bool(self.text)

    def say(self, text: str) -> bool:
        """Log a fault once, until there is another or it is over. Return whether it was logged now."""
        if text == self.text:
            return False
        self.text = text
        self._log.log(self._level, "%s", printable(text))
        return True

    def over(self) -> None:
        """It works again."""
        self.text = ""
