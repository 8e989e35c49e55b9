"""A bus for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bus.cluster import Cluster


@pytest.fixture(scope="session")
def bus() -> Iterator[Cluster]:
    """One server with JetStream, the same for all tests of a worker: each test uses a stream or subjects of its own."""
    with Cluster() as started:
        yield started
