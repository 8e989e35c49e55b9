"""How much a client may ask for: token buckets.

Rules of this file: no socket, no clock. Times are monotonic seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """A bucket's size and how fast it fills."""

    burst: float  # tokens that a client may spend at once
    per_second: float  # tokens that come back each second


class Bucket:
    """Tokens of one client. It begins full."""

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._tokens = rate.burst
        self._counted_at = now

    def left(self, now: float) -> float:
        """Tokens at `now`; negative after a `spend` of more than there were."""
        self._tokens = min(self._rate.burst, self._tokens + max(0.0, now - self._counted_at) * self._rate.per_second)
        self._counted_at = now
        return self._tokens

    def take(self, now: float, tokens: float = 1.0) -> bool:
        """Spend `tokens` if there are so many."""
        if self.left(now) < tokens:
            return False
        self._tokens -= tokens
        return True

    def spend(self, now: float, tokens: float) -> None:
        """Spend `tokens`, also if there are fewer: what follows has to wait."""
        self.left(now)
        self._tokens -= tokens

    def ready_at(self, now: float) -> float:
        """When there will be a token."""
        missing = 1.0 - self.left(now)
        return now + max(0.0, missing) / self._rate.per_second


class Allowance:
    """A bucket for each client, for the `remembered` clients seen last."""

    def __init__(self, rate: Rate, remembered: int) -> None:
        self._rate = rate
        self._remembered = remembered
        self._buckets: OrderedDict[Hashable, Bucket] = OrderedDict()

    def of(self, client: Hashable, now: float) -> Bucket:
        """The bucket of a client."""
        bucket = self._buckets.pop(client, None) or Bucket(self._rate, now)
        self._buckets[client] = bucket
        if len(self._buckets) > self._remembered:
            self._buckets.popitem(last=False)
        return bucket

    def take(self, client: Hashable, now: float, tokens: float = 1.0) -> bool:
        """Whether the client may spend `tokens` at `now`; they are then spent."""
        return self.of(client, now).take(now, tokens)

    def __len__(self) -> int:
        return len(self._buckets)
