"""Settings: one file, flags over it, and every mistake told at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from example_counts import examples
from mertd import defaults
from mertd.config import Settings, changes, collect, load, template, validate, weights_spec
from mertd.errors import UsageError, WeightsError
from mertd.windows import Late


@pytest.fixture
def toml(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        path = tmp_path / "mertd.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def mistakes(path: Path | None = None, **flags: Any) -> list[str]:
    """What is said of wrong settings, one line each, without the name of the file."""
    with pytest.raises(UsageError) as refusal:
        load(path, flags)
    lines = str(refusal.value).splitlines()
    assert path is None or all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


def test_defaults() -> None:
    found = load(None, {})
    assert (found.source, found.layers, found.backend, found.weights) == (("device:",), (6,), "auto", None)
    assert (found.bind, found.control) == ("tcp://127.0.0.1:5590", "tcp://127.0.0.1:5591")
    assert (found.window_samples, found.hop_samples, found.ring_samples) == (720_000, 120_000, 65 * 24_000)
    assert found.gate == -70
    assert not found.exit_at_end
    assert (found.log_level, found.log_format) == ("info", "text")
    assert not found.expose_without_encryption


def test_every_setting_can_stand_in_the_file(toml: Any) -> None:
    text = """
        expose_without_encryption = true
        curve = true
        keys = "/tmp/keys"
        source = ["synth:tone", "synth:noise?name=b"]
        bind = "tcp://0.0.0.0:1"
        control = "ipc:///tmp/x/y"
        window = 10
        hop = 2.5
        layers = [12, 0, 6, 6]
        backend = "numpy"
        weights = "random:1"
        threads = 3
        precision = "float32"
        check = true
        pace = "fast"
        late = "latest"
        gate = -50.5
        name = "studio"
        ring = 20
        remember = true
        memory = "/tmp/memory"
        keep = "2y"
        view = true
        view_address = "127.0.0.1:5600"
        relay = {to = "nats://bus", stream = "rooms"}
        exit_at_end = true
        log_level = "debug"
        log_format = "json"
    """
    found = load(toml(text), {})
    assert set(Settings.model_fields) == {line.split("=")[0].strip() for line in text.strip().splitlines()}
    assert (found.window, found.hop, found.layers, found.ring) == (10, 2.5, (0, 6, 12), 20)
    assert [address.name for address in found.addresses] == ["tone", "b"]
    assert (found.ring_samples, found.late_policy, found.gate) == (480_000, Late.LATEST, -50.5)


def test_with_keys_other_machines_may_be_let_in() -> None:
    assert load(None, {"bind": "tcp://0.0.0.0:1", "control": "tcp://[::]:2", "curve": True}).bind == "tcp://0.0.0.0:1"


def test_flags_win_over_the_file(toml: Any) -> None:
    path = toml('hop = 2\nbackend = "numpy"\nsource = ["synth:tone"]\nlayers = [3]\ngate = -40')
    found = load(path, {"hop": 7.0, "source": ("synth:noise",), "backend": None, "layers": (), "window": None, "gate": 0.0})
    assert (found.hop, found.source) == (7, ("synth:noise",))
    assert (found.backend, found.layers, found.window) == ("numpy", (3,), 30), "a flag that was not given changes nothing"
    assert found.gate == 0, "zero was given"


def test_a_flag_mends_a_mistake_of_the_file(toml: Any) -> None:
    assert load(toml("hop = -1"), {"hop": 5.0}).hop == 5


def test_every_mistake_is_told_at_once(toml: Any) -> None:
    path = toml("""
        windw = 10
        hop = 0
        window = "long"
        layers = [13]
        backend = "onx"
        pace = "slow"
        late = "never"
        gate = 3
        source = ["synth:tones", "file:", "synth:noise"]
        bind = "tcp://0.0.0.0:5590"
        control = "5591"
        exit_at_end = "perhaps"
    """)
    lines = mistakes(path)
    for start in (
        "windw: unknown setting; did you mean 'window'",
        "hop: should be greater than or equal to 0.25",
        "window: should be a valid number",
        "layers: layers are numbers from 0 (the encoder's input) to 12, not [13]",
        "backend: should be 'auto', 'mlx', 'coreml', 'openvino', 'onnx' or 'numpy'",
        "pace: should be 'realtime' or 'fast'",
        "late: should be 'latest' or 'queue'",
        "gate: should be less than or equal to 0",
        "source: source 'synth:tones': synth is one of chords, tone, noise, silence; did you mean 'tone'?",
        "source: source 'file:': a path is missing after file:",
        "bind: tcp://0.0.0.0:5590 can be reached from other machines",
        "control: '5591' is not an endpoint",
        "exit_at_end: should be a valid boolean",
    ):
        assert len([line for line in lines if line.startswith(start)]) == 1, start
    assert len(lines) == 13


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"window": 0.5}, "--window: should be greater than or equal to 1"),
        ({"window": 601.0}, "--window: should be less than or equal to 600"),
        ({"hop": 3_601.0}, "--hop: should be less than or equal to 3600"),
        ({"ring": 34.0}, "--ring: 34 s of audio are too few for a window of 30 s and a hop of 5 s; make it at least 35"),
        (
            {"bind": "tcp://127.0.0.1:1", "control": "tcp://127.0.0.1:1"},
            "--control: tcp://127.0.0.1:1 is also the endpoint to publish on",
        ),
        ({"layers": (-1,)}, "--layers: layers are numbers from 0"),
        ({"source": ("pipe:-", "pipe:-")}, "--source: standard input can feed only one source"),
        ({"bind": "tcp://192.0.2.1:1"}, "--bind: tcp://192.0.2.1:1 can be reached from other machines, and without encryption"),
        ({"keys": "/tmp/keys"}, "--keys: not used without curve = true"),
        ({"sauce": "x"}, "--sauce: unknown setting; did you mean 'source'"),
    ],
)
def test_single_mistakes(flags: dict[str, Any], says: str) -> None:
    (line,) = mistakes(**flags)
    assert line.startswith(says)


@pytest.mark.parametrize("name", ["window", "hop", "gate", "ring"])
@pytest.mark.parametrize("value", ["nan", "inf", "1e400"])
def test_numbers_that_are_none_are_mistakes(toml: Any, name: str, value: str) -> None:
    """TOML has them."""
    (line,) = mistakes(toml(f"{name} = {value}"))
    assert line.startswith(f"{name}: ")


def test_a_list_may_be_empty_only_where_that_has_a_meaning(toml: Any) -> None:
    assert mistakes(toml("source = []")) == ["source: at least one source is needed"]
    assert mistakes(toml("layers = []"))[0].startswith("layers: layers are numbers")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml: No such file or directory"):
        load(tmp_path / "none.toml", {})
    with pytest.raises(UsageError, match="Is a directory"):
        load(tmp_path, {})
    for content in (b"window = ", b"\xff\xfe", b"a = 1\na = 2", b"a = " + b"[" * 5000, b"window = " + b"9" * 5000):
        (tmp_path / "x.toml").write_bytes(content)
        with pytest.raises(UsageError, match=r"x\.toml is not TOML"):
            load(tmp_path / "x.toml", {})


@given(
    st.dictionaries(
        st.sampled_from([*Settings.model_fields, "other"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=8)
        | st.lists(st.text(max_size=5), max_size=3),
        max_size=5,
    )
)
@settings(max_examples=examples(600))
def test_any_values_are_settings_or_mistakes(values: dict[str, Any]) -> None:
    try:
        found = load(None, values)
    except UsageError:
        return
    assert found.ring_samples >= found.window_samples + found.hop_samples
    assert found.addresses


@given(window=st.floats(1, 600), hop=st.floats(0.25, 3_600))
def test_seconds_are_whole_samples(window: float, hop: float) -> None:
    found = load(None, {"window": window, "hop": hop})
    assert found.window * 24_000 == pytest.approx(found.window_samples, abs=1e-6)
    assert abs(found.window - window) <= 0.5 / 24_000 + 1e-9
    assert found.ring_samples >= found.window_samples + found.hop_samples + 30 * 24_000


def test_late_policy_follows_the_pace() -> None:
    assert load(None, {}).late_policy is Late.LATEST
    assert load(None, {"pace": "fast"}).late_policy is Late.QUEUE
    assert load(None, {"pace": "fast", "late": "latest"}).late_policy is Late.LATEST
    assert load(None, {"late": "queue"}).late_policy is Late.QUEUE


def test_two_free_ports_are_not_the_same() -> None:
    free = "tcp://127.0.0.1:*"
    assert load(None, {"bind": free, "control": free}).control == free


def test_a_daemon_a_replay_and_a_page_can_all_be_started_without_naming_a_port() -> None:
    addresses = [text for text in vars(defaults).values() if isinstance(text, str) and "127.0.0.1:" in text]
    assert len(addresses) == 5
    assert len({address.rpartition(":")[2] for address in addresses}) == len(addresses)


def test_weights_are_those_named_or_those_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "MERT-v1-95M.safetensors"
    monkeypatch.setattr("mertd.config.paths.default_weights", lambda: home)
    assert weights_spec(load(None, {"weights": "random:0"})) == "random:0"
    with pytest.raises(
        WeightsError, match=r"no weights: .* does not exist; run `mertd model pull`, name a file with --weights PATH"
    ):
        weights_spec(load(None, {}))
    home.touch()
    assert weights_spec(load(None, {})) == str(home)


def test_each_layer_wins_over_the_one_before(toml: Any) -> None:
    path = toml('hop = 2\ngate = -40\nwindow = 10\nsource = ["synth:tone"]')
    environment = {"MERTD_HOP": "3.5", "MERTD_GATE": "-50", "MERTD_LAYERS": "0, 6", "MERTD_EXIT_AT_END": "true", "HOME": "/"}
    found = collect(path, {"hop": 4.0, "gate": None}, environment)
    settings_ = validate(found)
    assert (settings_.hop, settings_.gate, settings_.window, settings_.layers) == (4, -50, 10, (0, 6))
    assert settings_.exit_at_end
    wanted = {"hop": "flag", "gate": "environment", "window": "file", "layers": "environment", "source": "file"}
    assert {name: found.origins.get(name) for name in wanted} == wanted
    assert "ring" not in found.origins
    assert load(None, {}, {"MERTD_SOURCE": "synth:tone,synth:noise"}).source == ("synth:tone", "synth:noise")


def test_mistakes_are_told_with_where_they_stand(toml: Any) -> None:
    path = toml("hop = -1\nwindw = 3")
    with pytest.raises(UsageError) as refusal:
        load(path, {"gate": 3.0, "late": "never"}, {"MERTD_WINDOW": "long", "MERTD_HOPP": "3", "MERTD_LAYERS": "6,x"})
    lines = str(refusal.value).splitlines()
    assert "--gate: should be less than or equal to 0" in lines
    assert "--late: should be 'latest' or 'queue'" in lines
    assert f"{path}: hop: should be greater than or equal to 0.25" in lines
    assert f"{path}: windw: unknown setting; did you mean 'window' or 'bind'?" in lines
    assert "MERTD_HOPP: unknown setting; did you mean 'hop'?" in lines
    assert any(line.startswith("MERTD_WINDOW: should be a valid number") for line in lines)
    assert any(line.startswith("MERTD_LAYERS") for line in lines)
    assert len(lines) == 7


def test_a_mistake_in_several_settings_is_told_where_the_one_that_can_be_mended_stands(toml: Any) -> None:
    path = toml("ring = 20\nkeys = '/tmp/keys'")
    with pytest.raises(UsageError) as refusal:
        load(path, {"window": 30.0, "control": "tcp://127.0.0.1:5590"})
    (line,) = str(refusal.value).splitlines()
    assert line.startswith(f"{path}: ring: 20 s of audio are too few")
    with pytest.raises(UsageError) as refusal:
        load(toml("window = 30"), {"control": "tcp://127.0.0.1:5590"})
    (line,) = str(refusal.value).splitlines()
    assert line.startswith("--control: tcp://127.0.0.1:5590 is also the endpoint to publish on")


def test_a_mistake_in_a_table_is_told_with_its_name_or_by_what_made_the_table(toml: Any) -> None:
    path = toml("[relay]\nto = 'nats://bus'\nreplicas = 'three'\nstrem = 'x'")
    with pytest.raises(UsageError) as refusal:
        load(path, {})
    lines = str(refusal.value).splitlines()
    assert f"{path}: relay.strem: unknown setting; did you mean 'stream'?" in lines
    assert any(line.startswith(f"{path}: relay.replicas: should be a valid integer") for line in lines)
    assert len(lines) == 2
    for flags, environment, start in (
        ({"relay": "ftp://bus"}, {}, "--relay: 'ftp://bus' is not the address of a bus"),
        ({}, {"MERTD_RELAY": "ftp://bus"}, "MERTD_RELAY: 'ftp://bus' is not the address of a bus"),
    ):
        with pytest.raises(UsageError) as refusal:
            load(None, flags, environment)
        assert str(refusal.value).startswith(start)
    assert mistakes(toml("'relay.x' = 1")) == ["relay.x: unknown setting; did you mean 'relay'?"], "a name with a dot"
    assert mistakes(toml("relay = 5")) == ["relay: expected a table, or the address of a bus"]


def test_the_template_says_every_setting_and_its_default(tmp_path: Path) -> None:
    path = tmp_path / "mertd.toml"
    path.write_text(template(), encoding="utf-8")
    assert load(path, {}) == Settings(), "as it is written, nothing is set"
    plain = "\n".join(line.removeprefix("# ") for line in template().splitlines() if re.match(r"# \w+ = ", line))
    path.write_text(plain, encoding="utf-8")
    assert load(path, {}) == Settings(), "and what it says to be defaults are"
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert re.search(rf"^# {name}( = |: not set)", template(), re.MULTILINE)


def test_what_can_change_live_and_what_takes_a_restart() -> None:
    old = Settings(hop=5, source=("synth:tone",))
    assert changes(old, old) == ({}, [])
    new = Settings(hop=2, gate=-60, log_level="debug", source=("synth:noise",), window=10)
    assert changes(old, new) == ({"hop": 2, "gate": -60, "log_level": "debug"}, ["source", "window"])
