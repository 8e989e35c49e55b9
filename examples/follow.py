"""Print embeddings with the client library, which fetches missed ones from the daemon's history.

python follow.py [ENDPOINT CONTROL [COUNT]]
"""

import sys

import mertd

endpoint, control = sys.argv[1:3] if len(sys.argv) > 2 else ("tcp://127.0.0.1:5590", "tcp://127.0.0.1:5591")
count = int(sys.argv[3]) if len(sys.argv) > 3 else None

with mertd.subscribe(endpoint, control=control, last=2) as subscriber:
    for number, message in enumerate(subscriber, 1):
        if isinstance(message, mertd.Embedding):
            when = "before" if message.replay else "live"
            print(message.daemon, message.stream, message.seq, when, message.vector[0, :3].round(3), flush=True)
        if number == count:
            break
    print(f"{subscriber.recovered} fetched, {subscriber.lost} lost", file=sys.stderr)
