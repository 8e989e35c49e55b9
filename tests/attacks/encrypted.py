"""Attacks by a client with a key that may only listen, through libzmq. They go on after the key was revoked."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable
from typing import Any

import zmq

from attacks.on_requests import HISTORY, STATUS
from attacks.target import Target

QUEUE = 20_000
"""Messages that the attacker's own libzmq may hold back."""


def sockets(target: Target, kind: int, endpoint: str, count: int, work: Callable[[list[Any]], None], turn_s: float) -> None:
    """Connect `count` sockets, do `work` with them for `turn_s`, hang up at once, and begin anew."""
    keys = target.keys
    assert keys is not None
    while target.going_on():
        context = zmq.Context()
        opened = [context.socket(kind) for _ in range(count)]
        for socket in opened:
            socket.setsockopt(zmq.SNDHWM, QUEUE)
            socket.setsockopt(zmq.RCVHWM, 1)
            socket.setsockopt(zmq.RECONNECT_IVL, 10)
            keys.secure(socket)
            socket.connect(endpoint)
        turn_ends = min(target.until, time.monotonic() + turn_s)
        while time.monotonic() < turn_ends:
            with contextlib.suppress(zmq.Again):
                work(opened)
        context.destroy(linger=0)


def pipelined_then_hangup(target: Target) -> None:
    """Thousands of requests, then no one reads the answers, then nobody is there."""

    def work(opened: list[Any]) -> None:
        for socket in opened:
            for _ in range(5_000):
                socket.send(STATUS, zmq.NOBLOCK)
        time.sleep(0.2)

    sockets(target, zmq.DEALER, target.control, 3, work, 0.5)


def flood_of_requests(target: Target) -> None:
    """Requests without a pause on one connection; history and status by turns, of which no answer is read."""
    questions = itertools.cycle([STATUS, HISTORY])

    def work(opened: list[Any]) -> None:
        for socket in opened:
            socket.send(next(questions), zmq.NOBLOCK)

    sockets(target, zmq.DEALER, target.control, 1, work, 60.0)


def many_parts(target: Target) -> None:
    """Messages of 50,000 parts each, one after the other."""
    message = [b""] * 50_000 + [b"end"]

    def work(opened: list[Any]) -> None:
        for socket in opened:
            socket.send_multipart(message, zmq.NOBLOCK)

    sockets(target, zmq.DEALER, target.control, 3, work, 2.0)


def flood_of_subscriptions(target: Target) -> None:
    """New topics without end; libzmq sends them all again whenever it was cut off."""
    numbers = itertools.count()

    def work(opened: list[Any]) -> None:
        for socket in opened:
            for _ in range(1_000):
                socket.subscribe(b"%d." % next(numbers))

    sockets(target, zmq.SUB, target.publish, 2, work, 1.0)


def changes_of_mind(target: Target) -> None:
    """Subscribe and unsubscribe without end, on connections that stay."""

    def work(opened: list[Any]) -> None:
        for socket in opened:
            for _ in range(200):
                socket.subscribe(b"topic")
                socket.unsubscribe(b"topic")

    sockets(target, zmq.SUB, target.publish, 2, work, 60.0)


def reconnecting(target: Target) -> None:
    """Handshakes without end: every one costs the daemon a computation and a question to the list of keys."""

    def work(opened: list[Any]) -> None:
        for socket in opened:
            socket.send(STATUS, zmq.NOBLOCK)
        time.sleep(0.05)

    sockets(target, zmq.DEALER, target.control, 20, work, 0.05)
