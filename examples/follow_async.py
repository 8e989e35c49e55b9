"""Print how similar each window is to the one before it, in an event loop that stays free for other work.

python follow_async.py [ENDPOINT CONTROL [COUNT]]
"""

import asyncio
import sys

import numpy as np

import mertd

endpoint, control = sys.argv[1:3] if len(sys.argv) > 2 else ("tcp://127.0.0.1:5590", "tcp://127.0.0.1:5591")
count = int(sys.argv[3]) if len(sys.argv) > 3 else -1


async def follow() -> None:
    left, before = count, None
    with mertd.subscribe(endpoint, control=control) as subscriber:
        async for message in subscriber:
            assert isinstance(message, mertd.Embedding)
            vector = message.vector[0] / np.linalg.norm(message.vector[0])
            if before is not None:
                print(message.stream, message.seq, f"cosine {vector @ before:.4f}", flush=True)
            before, left = vector, left - 1
            if left == 0:
                return


asyncio.run(follow())
