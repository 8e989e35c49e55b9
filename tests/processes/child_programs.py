"""What the child processes of tests run, in place of capture and embed. `main` does as it is told."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from multiprocessing.connection import Connection

from mertd.processes.child import Outbox, begin


def main(what: str, pipe: Connection) -> None:
    """`what`: how to end."""
    begin(pipe, lambda message: os._exit(int(message)))
    outbox = Outbox(pipe)
    outbox.send(os.getpid())
    match what:
        case "abort":
            os.write(2, b"ALSA says something\nlibc++abi: terminating due to uncaught exception\n")
            ctypes.CDLL(None).abort()
        case "raise":
            raise RuntimeError("a bug")
        case "speak":
            print("a word", file=sys.stderr)
        case "killed":
            os.write(2, b"unrelated\n")
            os.kill(os.getpid(), signal.SIGKILL)
        case "beat":
            while True:
                outbox.send(None)
                time.sleep(0.02)
        case "half":
            os.write(pipe.fileno(), b"\0\0\0\x10half")
            time.sleep(3_600)
        case "babble":
            os.write(pipe.fileno(), b"\0\0\0\x04this")
            time.sleep(3_600)
        case "obey":
            time.sleep(3_600)
