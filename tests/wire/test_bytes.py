"""Wire version 1, byte by byte: payloads written down by hand from design and msgpack specification."""

from __future__ import annotations

import numpy as np
import pytest

import msgpack_reader
from mertd.wire import Audio, Embedding, Event, Latency, Message, Model, Span, Status, Time, decode, encode
from messages import BOOT

HEAD = "a6 736368656d61 01 a4 6b696e64"  # schema: 1, kind:
BOOTS = "a4 626f6f74 c4 10 000102030405060708090a0b0c0d0e0f"  # boot: 16 bytes
DAEMONS = "a6 6461656d6f6e a1 64"  # daemon: "d"
STREAM = "a6 73747265616d a1 61"  # stream: "a"
TABLE: dict[str, tuple[Message, bytes, str]] = {
    "event": (
        Event(BOOT, "d", "a", 1, 300, "skipped", 70_000, -1, {"windows": 2}),
        b"event/a/",
        f"8c {HEAD} a5 6576656e74 {BOOTS} {DAEMONS} {STREAM}"
        "a5 65706f6368 01  a3 736571 cd012c  a5 6576656e74 a7 736b6970706564"  # epoch: 1, seq: 300, event: "skipped"
        "a5 696e646578 ce00011170  a7 74696d655f6e73 ff"  # index: 70000, time_ns: -1
        "a6 64657461696c 81 a7 77696e646f7773 02  a6 7265706c6179 c2",  # detail: {windows: 2}, replay: false
    ),
    "status": (
        Status(BOOT, "d", 1 << 40, 0, "0.1", "running", {}, {"a": {}}, {}, 128, 0),
        b"status/",
        f"8d {HEAD} a6 737461747573 {BOOTS} {DAEMONS}"
        "a7 74696d655f6e73 cf0000010000000000  a9 757074696d655f6e73 00"  # time_ns: 2^40, uptime_ns: 0
        "a7 76657273696f6e a3 302e31  a5 7068617365 a7 72756e6e696e67"  # version: "0.1", phase: "running"
        "a5 6d6f64656c 80  a7 73747265616d73 81 a1 61 80  a9 70726f636573736573 80"  # model, streams: {a: {}}, processes
        "a9 7075626c6973686564 cc80  a7 64726f70706564 00",  # published: 128, dropped: 0
    ),
    "embedding": (
        Embedding(
            boot=BOOT,
            daemon="d",
            stream="a",
            epoch=0,
            seq=0,
            window=Span(0, 24, 24_000),
            time=Time(1, 2, 3, -1.5),
            audio=Audio(-20.0, 0.0, 4, 5, 6),
            model=Model("M", "s", "w", True, (6,), "mean", "onnx", "f"),
            vector=np.array([[1, -2]], np.float32),
            latency_ns=Latency(7, 8, 9),
            skipped=1,
            replay=True,
        ),
        b"embedding/a/",
        f"8f {HEAD} a9 656d62656464696e67 {BOOTS} {DAEMONS} {STREAM} a5 65706f6368 00  a3 736571 00"
        "a6 77696e646f77 83 a5 7374617274 00 a3 656e64 18 a4 72617465 cd5dc0"  # window: {start, end, rate}
        "a4 74696d65 84 a8 73746172745f6e73 01 a6 656e645f6e73 02 a8 6572726f725f6e73 03"  # time: {start_ns, end_ns, error_ns,
        "a9 64726966745f70706d cbbff8000000000000"  # drift_ppm: -1.5}
        "a5 617564696f 85 a8 726d735f64626673 cbc034000000000000 a9 7065616b5f64626673 cb0000000000000000"  # audio: {rms, peak,
        "a7 636c6970706564 04 a7 6d697373696e67 05 a5 7a65726f73 06"  # clipped, missing, zeros}
        "a5 6d6f64656c 88 a4 6e616d65 a14d a5 7370616365 a173 a7 77656967687473 a177"  # model: {name, space, weights,
        "a7 747261696e6564 c3 a6 6c6179657273 9106 a7 706f6f6c696e67 a4 6d65616e"  # trained, layers: [6], pooling: "mean",
        "a7 6261636b656e64 a4 6f6e6e78 a9 707265636973696f6e a166"  # backend, precision}
        "a6 766563746f72 83 a5 6474797065 a3 3c6634 a5 7368617065 920102"  # vector: {dtype: "<f4", shape: [1, 2],
        "a4 64617461 c4 08 0000803f 000000c0"  # data: 1, -2}
        "aa 6c6174656e63795f6e73 83 a4 77616974 07 a5 656d626564 08 a5 746f74616c 09"  # latency_ns: {wait, embed, total}
        "a7 736b6970706564 01 a6 7265706c6179 c3",  # skipped: 1, replay: true
    ),
}


@pytest.mark.parametrize("kind", TABLE)
def test_exact_bytes(kind: str) -> None:
    message, topic, payload = TABLE[kind]
    assert encode(message) == [topic, bytes.fromhex(payload)]
    assert encode(decode([topic, bytes.fromhex(payload)])) == [topic, bytes.fromhex(payload)]


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("c0", None),
        ("7f", 127),
        ("e0", -32),
        ("ccff", 255),
        ("cd0100", 256),
        ("d080", -128),
        ("d3ffffffffffffff00", -256),
        ("ca3f800000", 1.0),
        ("cbc000000000000000", -2.0),
        ("a3c3a978", "éx"),
        ("d90178", "x"),
        ("c403010203", b"\x01\x02\x03"),
        ("c50000", b""),
        ("93010203", [1, 2, 3]),
        ("dc0001c3", [True]),
        ("81a1610a", {"a": 10}),
        ("de0001a161c2", {"a": False}),
    ],
)
def test_the_reader_that_checks_the_bytes_reads_the_specification(data: str, value: object) -> None:
    assert msgpack_reader.read(bytes.fromhex(data)) == value


@pytest.mark.parametrize("data", ["", "c1", "a2ff", "0101", "82a16101a16102", "c70000"])
def test_the_reader_that_checks_the_bytes_refuses(data: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        msgpack_reader.read(bytes.fromhex(data))
