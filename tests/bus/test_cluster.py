"""The servers that other tests use: what was acknowledged is there after SIGKILL, and broken links are broken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import nats
import pytest
from nats.js.api import StreamConfig

from bus.cluster import Cluster, Fault
from command_process import PATIENCE_S

RETRY_S = 1.0
"""Seconds without an acknowledgement after which a message is published again."""


async def _connect(urls: list[str]) -> nats.NATS:
    async def quiet(_: Exception) -> None: ...

    return await nats.connect(urls, error_cb=quiet, max_reconnect_attempts=-1, reconnect_time_wait=0.05)


async def _publish(urls: list[str], number: int, replicas: int = 1) -> int:
    """Make a stream if need be, publish one message until it is acknowledged, and return its number."""
    client = await _connect(urls)
    try:
        jetstream = client.jetstream(timeout=RETRY_S)
        while True:
            try:
                await jetstream.add_stream(StreamConfig(name="kept", subjects=["kept"], num_replicas=replicas))
                return int((await jetstream.publish("kept", b"x", headers={"Nats-Msg-Id": str(number)})).seq)
            except (nats.errors.Error, TimeoutError):  # there is no leader at this moment
                await asyncio.sleep(RETRY_S / 10)
    finally:
        await client.close()


def _run(work: Awaitable[int]) -> int:
    async def limited() -> int:
        async with asyncio.timeout(PATIENCE_S):
            return await work

    return asyncio.run(limited())


def test_a_node_keeps_what_it_has_acknowledged_when_it_is_killed() -> None:
    with Cluster() as bus:
        assert _run(_publish(bus.urls(), 1)) == 1
        bus.nodes[0].kill()
        bus.nodes[0].start()
        bus.wait_ready()
        assert _run(_publish(bus.urls(), 2)) == 2


@pytest.mark.slow
def test_three_nodes_go_on_without_one_of_them() -> None:
    with Cluster(3, links=True) as bus:
        assert _run(_publish(bus.urls("client"), 1, replicas=3)) == 1
        bus.nodes[0].kill()
        assert _run(_publish(bus.urls("client"), 2, replicas=3)) == 2
        bus.nodes[0].start()
        bus.wait_ready()
        bus.around(1).drop(Fault.STALL)
        assert _run(_publish(bus.urls("client")[::2], 3, replicas=3)) == 3
        bus.heal()
        bus.wait_ready()
        assert all(node.is_running for node in bus.nodes)
