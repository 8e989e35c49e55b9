"""What the arguments of `Subscriber` mean: names, daemons, times."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime, timedelta

from mertd.defaults import CONTROL_ENDPOINT, PUBLISH_ENDPOINT
from mertd.errors import UsageError
from mertd.stream.client.link import Daemon
from mertd.stream.curve_keys import ClientKeys

KINDS = ("embedding", "event", "status")


def names(given: str | Iterable[str]) -> tuple[str, ...]:
    """Return names that were given as one or as several."""
    return (given,) if isinstance(given, str) else tuple(given)


def unix_ns(when: datetime | timedelta | int) -> int:
    """Return Unix nanoseconds: of a date and time, without a time zone a local one; of that long ago; or as given.

    Raises `UsageError`.
    """
    if isinstance(when, timedelta):
        return time.time_ns() - round(when.total_seconds() * 1e9)
    if isinstance(when, datetime):
        try:
            return round(when.timestamp() * 1e6) * 1_000
        except (ValueError, OverflowError, OSError) as error:
            raise UsageError(f"since={when}: not a time of this era") from error
    if type(when) is int and abs(when) < 1 << 63:
        return when
    raise UsageError(f"since={when!r:.50}: expected a datetime, a timedelta (this long ago), or Unix nanoseconds")


def pair_up(
    endpoint: str | Iterable[str],
    control: str | Iterable[str] | None,
    keys: ClientKeys | Iterable[ClientKeys | None] | None,
) -> list[Daemon]:
    """Return the daemons that the arguments name. Raises `UsageError`."""
    endpoints = [endpoint] if isinstance(endpoint, str) else list(endpoint)
    if control is None:
        controls: list[str | None] = [CONTROL_ENDPOINT if endpoints == [PUBLISH_ENDPOINT] else None] * len(endpoints)
    else:
        controls = [control] if isinstance(control, str) else list(control)
    all_keys = [keys] * len(endpoints) if keys is None or isinstance(keys, ClientKeys) else list(keys)
    if not endpoints or len(set(endpoints)) != len(endpoints):
        raise UsageError(f"endpoints must be different, and at least one: {', '.join(endpoints) or 'none was given'}")
    if len(controls) != len(endpoints):
        raise UsageError(f"{len(endpoints)} endpoints but {len(controls)} control endpoints; pass one for each, or none at all")
    if len(all_keys) != len(endpoints):
        raise UsageError(
            f"{len(endpoints)} endpoints but {len(all_keys)} keys; pass one for each (None for no key), or one for all"
        )
    return [Daemon(*one) for one in zip(endpoints, controls, all_keys, strict=True)]


def check_beginning(daemons: list[Daemon], newest: bool, **beginnings: bool) -> None:
    """Check what says where to begin. `beginnings`: which arguments were given. Raises `UsageError`."""
    given = [name for name, is_given in beginnings.items() if is_given]
    if newest and {"since", "cursor"} & set(given):
        raise UsageError(f"`newest` leaves messages out, so `{given[0]}` cannot be combined with it; pass one of them")
    if len(given) > 1 and set(given) != {"since", "cursor"}:
        raise UsageError(f"{' and '.join(f'`{name}`' for name in given)} cannot be combined; pass one of them")
    if given and given != ["resume"] and any(daemon.control is None for daemon in daemons):
        raise UsageError(f"`{given[0]}` needs a control endpoint to read history from; pass control=...")
