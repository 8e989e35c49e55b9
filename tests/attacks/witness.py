"""A well-behaved client beside an attack: it listens, asks for `status`, follows with the library, and weighs the supervisor.

It runs in threads of the runner; the attackers have processes of their own, so that their work is not taken for the daemon's.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import zmq

from attacks.victim import Victim
from chaos.parts import Pacemaker
from mertd.errors import EndpointError, MertdError
from mertd.stream.client.subscriber import Subscriber
from mertd.stream.curve_keys import ClientKeys
from mertd.stream.endpoint import harden
from mertd.stream.request import ask
from mertd.wire import Embedding, Status, decode

ASK_EVERY_S = 0.2
WEIGH_EVERY_S = 0.05
ASK_TIMEOUT_S = 3.0
WARM_UP_S = 60.0


@dataclass
class Figures:
    """What was seen since `Witness.begin`. Times are monotonic seconds."""

    began: float = field(default_factory=time.monotonic)
    memory_before_mb: float = 0.0
    memory_peak_mb: float = 0.0
    answers_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    beats: list[float] = field(default_factory=list)
    embeddings: int = 0
    holes: int = 0


class Witness:
    """As a context manager, from before an attack until after it."""

    def __init__(self, victim: Victim) -> None:
        self._victim = victim
        self._keys = victim.keys
        self._over = threading.Event()
        self._figures = Figures()
        self._asking_since = 0.0  # monotonic; 0 while nothing is asked
        self._warm = {name: threading.Event() for name in ("ask", "listen", "follow")}
        self.lost = 0
        self.recovered = 0
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=self._guarded, args=(name,), name=name) for name in (*self._warm, "weigh")]

    def __enter__(self) -> Self:
        self._pacemaker = Pacemaker()
        for thread in self._threads:
            thread.start()
        for name, warm in self._warm.items():
            assert warm.wait(WARM_UP_S), f"the witness never got to {name}; {self.errors}"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._pacemaker.close()

    def begin(self) -> None:
        """Forget what was seen so far."""
        memory = self._victim.resident_mb()
        self._figures = Figures(memory_before_mb=memory, memory_peak_mb=memory)

    def figures(self) -> Figures:
        """What was seen until now, with the answer and the beat that are still awaited."""
        now = time.monotonic()
        figures = self._figures
        if self._asking_since:
            figures.answers_s.append(now - max(self._asking_since, figures.began))
        figures.beats = [figures.began, *figures.beats, now]
        self._figures = Figures()
        return figures

    def stalled(self, figures: Figures) -> float:
        """Seconds since `figures` began in which this process was not run at all."""
        return self._pacemaker.stalled(figures.began, time.monotonic())

    def _guarded(self, name: str) -> None:
        work: dict[str, Callable[[], None]] = {
            "ask": self._ask,
            "listen": self._listen,
            "follow": self._follow,
            "weigh": self._weigh,
        }
        try:
            work[name]()
        except Exception as error:  # noqa: BLE001 - it is a finding, whatever it is
            self.errors.append(f"{name}: {type(error).__name__} {error}")

    def _ask(self) -> None:
        while not self._over.wait(ASK_EVERY_S):
            figures = self._figures
            began = self._asking_since = time.monotonic()
            try:
                ask(self._victim.control, {"request": "status"}, ASK_TIMEOUT_S, self._keys)
                self._warm["ask"].set()
            except MertdError as error:
                if self._victim.lives and not self._over.is_set():
                    figures.failures.append(str(error))
            self._asking_since = 0.0
            figures.answers_s.append(time.monotonic() - max(began, figures.began))

    def _listen(self) -> None:
        """A plain subscriber, as in any language: what it hears is not mended by the library."""
        last: dict[str, int] = {}
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            harden(socket)
            if self._keys:
                self._keys.secure(socket)
            for kind in ("status/", "embedding/"):
                socket.subscribe(kind)
            socket.connect(self._victim.publish)
            while not self._over.is_set():
                if not socket.poll(100):
                    continue
                message = decode(socket.recv_multipart())
                figures = self._figures
                if isinstance(message, Status):
                    figures.beats.append(time.monotonic())
                    self._warm["listen"].set()
                elif isinstance(message, Embedding):
                    figures.embeddings += 1
                    figures.holes += message.seq - last.get(message.stream, message.seq - 1) - 1
                    last[message.stream] = message.seq

    def _follow(self) -> None:
        subscriber = Subscriber(self._victim.publish, control=self._victim.control, keys=self._keys)
        with subscriber:
            while not self._over.is_set():
                with contextlib.suppress(EndpointError):  # it tries again
                    if subscriber.receive(0.2) is not None:
                        self._warm["follow"].set()
                self.lost = subscriber.lost
                self.recovered = subscriber.recovered

    def _weigh(self) -> None:
        while not self._over.wait(WEIGH_EVERY_S):
            figures = self._figures
            figures.memory_peak_mb = max(figures.memory_peak_mb, self._victim.resident_mb())


class Spy:
    """The attacker's own well-behaved connections: until when does a daemon serve a key that was revoked?"""

    def __init__(self, publish: str, control: str, keys: ClientKeys) -> None:
        self._publish = publish
        self._control = control
        self._keys = keys
        self._over = threading.Event()
        self.served_at = 0.0  # monotonic seconds of the last message or answer
        self._connected = threading.Event()
        self._thread = threading.Thread(target=self._spy, name="spy")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._connected.wait(WARM_UP_S), "the spy hears nothing"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _spy(self) -> None:
        question = b"\x82\xa6schema\x01\xa7request\xa6status"
        with zmq.Context() as context, context.socket(zmq.SUB) as listener, context.socket(zmq.DEALER) as asker:
            for socket, endpoint in ((listener, self._publish), (asker, self._control)):
                harden(socket)
                self._keys.secure(socket)
                socket.connect(endpoint)
            listener.subscribe("")
            asker.setsockopt(zmq.SNDHWM, 1)
            heard = answered = False
            while not self._over.is_set():
                with contextlib.suppress(zmq.Again):
                    asker.send(question, zmq.NOBLOCK)
                if listener.poll(50):
                    listener.recv_multipart()
                    heard = True
                    self.served_at = time.monotonic()
                while asker.poll(0):
                    if b"\xa2ok\xc3" in asker.recv():  # a refusal is no service
                        answered = True
                        self.served_at = time.monotonic()
                if heard and answered:
                    self._connected.set()
