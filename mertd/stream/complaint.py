"""A fault that goes on, and is logged once."""

from __future__ import annotations

import logging

from mertd.text import printable


class Complaint:
    """What is wrong at present; it is true while anything is."""

    def __init__(self, log: logging.Logger, level: int = logging.ERROR) -> None:
        self._log, self._level = log, level
        self._text = ""

    def __bool__(self) -> bool:
        return bool(self._text)

    def say(self, text: str) -> None:
        """Log a fault once, until there is another or it is over."""
        if text != self._text:
            self._text = text
            self._log.log(self._level, "%s", printable(text))

    def over(self) -> None:
        """It works again."""
        self._text = ""
