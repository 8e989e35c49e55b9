"""Print embeddings as they come: all that a client needs is a SUB socket and msgpack.

    python subscribe.py [ENDPOINT [COUNT]]

Needs pyzmq, msgpack and numpy, and nothing of mertd itself; every language with ZeroMQ can do the same.
"""

import sys
from datetime import datetime

import msgpack
import numpy as np
import zmq

endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5590"
count = int(sys.argv[2]) if len(sys.argv) > 2 else None

socket = zmq.Context.instance().socket(zmq.SUB)
socket.subscribe("embedding/")  # of every stream; "embedding/NAME/" for one, "event/" and "status/" for the rest
socket.ipv6 = "[" in endpoint  # without it, libzmq knows no addresses such as [::1]
socket.connect(endpoint)

expected: dict[tuple[bytes, str], int] = {}
while count is None or count > 0:
    topic, payload = socket.recv_multipart()
    message = msgpack.unpackb(payload)
    if message["schema"] != 1:
        sys.exit(f"this reads version 1 of the format, not {message['schema']}")

    # Each run of the daemon numbers its messages without holes: a hole is a message that did not arrive.
    source, number = (message["boot"], message["stream"]), message["seq"]
    if (lost := number - expected.get(source, number)) > 0:
        print(f"{lost} messages lost", file=sys.stderr)
    expected[source] = number + 1

    vector = np.frombuffer(message["vector"]["data"], message["vector"]["dtype"]).reshape(message["vector"]["shape"])
    heard = datetime.fromtimestamp(message["time"]["start_ns"] / 1e9).astimezone()
    print(f"{heard:%H:%M:%S.%f} {message['stream']} {vector.shape} {vector[0, :3].round(3)}", flush=True)
    count = None if count is None else count - 1
