"""The daemon that is attacked: a real `mertd run` on loopback TCP, in processes of its own."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from attacks.target import INTRUDER, Attack, Target
from daemon_process import TINY, Daemon
from mertd.stream.curve_keys import LOCAL
from mertd.stream.keyring import Keyring

WINDOW_S = 1.0
ANY_PORT = "tcp://127.0.0.1:*"

STOP_PATIENCE_S = 30.0
"""Seconds after SIGTERM at which it is measured no longer."""


class Victim(Daemon):
    """A daemon with the sources, keys and limits that an attack asks for. `ring`: its key folder, if it encrypts."""

    def __init__(self, attack: Attack) -> None:
        self._keys_folder = tempfile.TemporaryDirectory(prefix="mertd-keys-")
        self._descriptors = attack.descriptors
        self._streams = len(attack.sources)
        self.ring: Keyring | None = None
        options = ["--window", WINDOW_S, "--hop", attack.hop_s, "--backend", "numpy", "--late", attack.late]
        options += [word for source in attack.sources for word in ("--source", source)]
        if attack.curve:
            self.ring = Keyring(Path(self._keys_folder.name) / "keys")
            self.ring.new_server()
            self.ring.new_client(INTRUDER)
            self.ring.allow(INTRUDER)
            options += ["--curve", "--keys", self.ring.folder]
        keys = self.ring.client(LOCAL) if self.ring else None
        super().__init__(*TINY, *options, endpoints=(ANY_PORT, ANY_PORT), keys=keys)

    def _prepare(self) -> None:
        super()._prepare()
        if self._descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self._descriptors, self._descriptors))

    def __enter__(self) -> Self:
        super().__enter__()
        self.until(lambda status: all(stream["embedded"] for stream in status.streams.values()))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is not None and self.process.poll() is None:
                self.process.kill()
            super().__exit__(kind, error, trace)
        finally:
            self._keys_folder.cleanup()

    def target(self, seconds: float) -> Target:
        """What an attack of `seconds` is told."""
        ports = [int(endpoint.rpartition(":")[2]) for endpoint in (self.publish, self.control)]
        return Target(*ports, str(self.ring.folder) if self.ring else "", time.monotonic() + seconds)

    def resident_mb(self) -> float:
        """Memory of the supervisor, in MB; 0 if it is gone."""
        try:
            return psutil.Process(self.process.pid).memory_info().rss / 1e6
        except psutil.Error:
            return 0.0

    @property
    def lives(self) -> bool:
        return self.process.poll() is None

    def terminate(self) -> float:
        """Send SIGTERM, and return the seconds until it has ended in order. Raises `AssertionError` if it does not."""
        began = time.monotonic()
        self.process.terminate()
        try:
            self.process.wait(STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"still running {STOP_PATIENCE_S:.0f} s after SIGTERM") from None
        seconds = time.monotonic() - began
        assert self.process.returncode == os.EX_OK, f"exit code {self.process.returncode} after SIGTERM"
        return seconds
