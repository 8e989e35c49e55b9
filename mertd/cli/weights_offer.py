"""Ask a person at the terminal whether to fetch the trained weights that `mertd run` needs and this machine does not have."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mertd.cli.output import ask_yes, say_aside
from mertd.cli.standard_streams import STANDARD_INPUT

if TYPE_CHECKING:
    from mertd.config import Settings

TERMS = "MERT-v1-95M, 190 MB, licence CC-BY-NC-4.0: credit Li et al. 2024 (arXiv 2306.00107), no commercial use"
"""What is fetched: name, size, licence."""


def offer_weights(settings: Settings) -> None:
    """Fetch the weights if there are none, there is somebody to ask, and the answer is yes; otherwise do nothing.

    Raises `HubError` if they cannot be fetched.
    """
    from mertd.config import default_weights
    from mertd.user_folders import HomeUnknownError

    try:
        home = default_weights()
    except HomeUnknownError:
        return
    if settings.weights is not None or home.is_file() or any(address.is_stdin for address in settings.addresses):
        return
    if not can_ask():
        return
    say_aside(f"There are no weights at {home}.")
    say_aside(f"The Hugging Face hub has them: {TERMS}.")
    with _signals_as_usual():
        if not ask_yes("Fetch them now?"):
            return
        from mertd.embed.weights import hub

        pulled = hub.pull(home)
    for reason in pulled.passed_over:
        say_aside(f"passed over: {reason}")
    say_aside(f"{pulled.path}: from {pulled.file}, digest {pulled.digest[:16]}")


def can_ask() -> bool:
    """Return whether a person can read a question on standard error and answer it.

    A process in the background of a terminal (`mertd run &`) cannot: the system stops it when it reads.
    """
    try:
        return sys.stderr.isatty() and os.isatty(STANDARD_INPUT) and os.tcgetpgrp(STANDARD_INPUT) == os.getpgrp()
    except OSError:  # a terminal that is not this session's
        return False


@contextmanager
def _signals_as_usual() -> Iterator[None]:
    """Let Ctrl-C end the program within, although `mertd run` blocks it until the daemon can handle it."""
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
