"""A program that uses the client library: `python -m attacks.client_program PUBLISH CONTROL SECONDS NAP_S`.

It receives a message, naps, and receives on until its time is over. What goes wrong is counted by its kind, and it goes on.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter

import mertd
from mertd.errors import MertdError


def main() -> None:
    publish, control = sys.argv[1:3]
    seconds, nap_s = map(float, sys.argv[3:5])
    until = time.monotonic() + seconds
    seen: Counter[str] = Counter()
    with mertd.subscribe(publish, control=control, kinds=("embedding", "event", "status")) as subscriber:
        napped = False
        while time.monotonic() < until:
            try:
                received = subscriber.receive(0.2)
            except MertdError as error:
                seen[type(error).__name__] += 1
                continue
            seen["messages"] += received is not None
            if received is not None and not napped:
                napped = True
                time.sleep(nap_s)
        print(json.dumps({**seen, "lost": subscriber.lost, "recovered": subscriber.recovered}))


if __name__ == "__main__":
    main()
