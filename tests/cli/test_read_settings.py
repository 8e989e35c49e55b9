"""Settings from options, a file and the environment, as commands read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mertd.cli.bus_options import bus_access
from mertd.cli.read_settings import relay_settings
from mertd.errors import UsageError

pytest.importorskip("nats")  # the extra `bus`


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MERTD_RELAY", raising=False)
    path = tmp_path / "mertd.toml"
    path.write_text("[relay]\nto = 'nats://one'\nmax_age = 'long'\nca = '/etc/ca.pem'\n")
    return path


def refusal(config: Path, **options: str | None) -> list[str]:
    with pytest.raises(UsageError) as refused:
        relay_settings(config, options)
    return str(refused.value).splitlines()


def test_an_option_replaces_what_the_file_says(config: Path) -> None:
    found = relay_settings(config, {"to": "nats://two", "max_age": "2d", "ca": None})
    assert (found.to, found.max_age, found.ca) == ("nats://two", "2d", "/etc/ca.pem")


def test_a_mistake_is_told_where_it_stands(config: Path) -> None:
    (line,) = refusal(config)
    assert line.startswith(f"{config}: relay.max_age: 'long' is not a time")
    (line,) = refusal(config, to="ftp://bus")
    assert line.startswith("--to: 'ftp://bus' is not the address of a bus")
    for address, stream, start in (
        ("nats://:x", "rooms", "--from: 'nats://:x' is not the address of a bus"),
        ("nats://bus", "a b", "--bus-stream: 'a b' is not the name of a JetStream stream"),
    ):
        with pytest.raises(UsageError) as refused:
            bus_access("--from", address, None, {"stream": stream})
        assert str(refused.value).startswith(start)


def test_what_a_bus_keeps_may_be_less_than_what_a_memory_keeps(config: Path) -> None:
    """A file of the memory is deleted whole, so it keeps a gigabyte at least."""
    assert relay_settings(config, {"max_age": "1h", "max_size": "100MB"}).wish().max_bytes == 100 * 10**6
    assert refusal(config, max_age="1h", max_size="2h") == ["--max-size: '2h' is not a size; write it as 500MB or 50GB"]
    assert refusal(config, max_age="1h", max_size="0GB")[0].startswith("--max-size: '0GB' is not a size")
    assert refusal(config, max_age="5GB") == ["--max-age: '5GB' is not a time; write it as 2y, 30d or 12h"]
    assert refusal(config, max_age="0d")[0].startswith("--max-age: '0d' is not a time")


def test_a_variable_is_named_as_it_is_set(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERTD_RELAY", "ftp://bus")
    lines = refusal(config)
    assert any(line.startswith("MERTD_RELAY: 'ftp://bus' is not the address of a bus") for line in lines)


def test_without_a_bus_it_is_said_how_to_name_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MERTD_RELAY", raising=False)
    empty = tmp_path / "empty.toml"
    empty.touch()
    assert refusal(empty) == ["no bus is named; give --to nats://HOST:4222, or a table [relay] in the configuration"]
    empty.write_text("relay = 5")
    assert refusal(empty, to="nats://bus") == [f"{empty}: relay: expected a table, or the address of a bus"]
