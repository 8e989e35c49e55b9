"""Messages as JSON whose times a program can read that rounds integers."""

from __future__ import annotations

import json

import pytest

from mertd.cli.message_printer import MessagePrinter, with_text_times
from mertd.wire import Time, as_json
from messages import embedding, event, status

TIME_NS = 1_764_000_000_123_456_789


def test_times_are_text_and_nothing_else() -> None:
    message = embedding(3, time=Time(TIME_NS, TIME_NS + 1, 5, 1.5))
    exact, plain = with_text_times(as_json(message)), as_json(message)
    assert exact["time"] == {"start_ns": str(TIME_NS), "end_ns": str(TIME_NS + 1), "error_ns": "5", "drift_ppm": 1.5}
    assert {**exact, "time": plain["time"]} == plain


def test_no_integer_of_a_message_is_rounded_by_a_double() -> None:
    processes = {"embed": {"pid": 1, "last_error_ns": TIME_NS}}
    for message in (
        embedding(3, time=Time(TIME_NS, TIME_NS + 1, 5, 1.5)),
        event(time_ns=TIME_NS, detail={"jump_ns": -TIME_NS, "frames": 3}),
        status(time_ns=TIME_NS, uptime_ns=2**54 + 1, processes=processes),
    ):
        text = json.dumps(with_text_times(as_json(message)))
        assert json.loads(text) == json.loads(text, parse_int=lambda digits: int(float(digits)))


@pytest.mark.parametrize("json_asked", [True, False])
def test_the_option_alone_prints_json(json_asked: bool, capsys: pytest.CaptureFixture[str]) -> None:
    printer = MessagePrinter(json_asked, text_times=True)
    printer.show(event(time_ns=TIME_NS))
    assert json.loads(capsys.readouterr().out)["time_ns"] == str(TIME_NS)
    MessagePrinter(json=False, text_times=False).show(event(time_ns=TIME_NS))
    assert not capsys.readouterr().out.startswith("{")
