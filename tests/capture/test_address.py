"""Source addresses: what each form means, and the errors for wrong ones."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from example_counts import examples
from mertd.capture.address import PCM_FORMATS, Address, distinct, parse
from mertd.capture.source_kinds import SYNTHS
from mertd.errors import UsageError

GOOD = {
    "device:": Address("device", "", "default"),
    "device:BlackHole 2ch": Address("device", "BlackHole 2ch", "blackhole-2ch"),
    "device:USB: Mic?mix=2&rate=44100&channels=4": Address("device", "USB: Mic", "usb-mic", "2", 44_100, 4),
    "device:alsa_output.pci.monitor?name=desk": Address("device", "alsa_output.pci.monitor", "desk"),
    "file:/music/My Song.flac": Address("file", "/music/My Song.flac", "my-song"),
    "file:a.wav?mix=active": Address("file", "a.wav", "a", "active"),
    "pipe:-": Address("pipe", "-", "pipe", rate=48_000, channels=2),
    "pipe:/run/x.fifo?rate=44100&channels=1&format=f32le": Address("pipe", "/run/x.fifo", "x", "mean", 44_100, 1, "f32le"),
    "synth:tone": Address("synth", "tone", "tone"),
    "synth:chords?seconds=2.5&rate=8000&channels=1": Address("synth", "chords", "chords", "mean", 8_000, 1, seconds=2.5),
}


@pytest.mark.parametrize("url", GOOD)
def test_addresses(url: str) -> None:
    assert parse(url) == GOOD[url]


BAD = {
    "": "expected device:[NAME], loopback:[NAME], tap:[PROGRAM], file:PATH, pipe:PATH",
    "microphone": "expected device:[NAME], loopback:[NAME], tap:[PROGRAM], file:PATH, pipe:PATH",
    "devise:x": "did you mean 'device'?",
    "http://radio": "expected device:[NAME], loopback:[NAME], tap:[PROGRAM], file:PATH, pipe:PATH",
    "file:": "a path is missing after file:",
    "file:a\0b.wav": "a name cannot contain the character NUL",
    "pipe:?rate=48000": "a path is missing after pipe:",
    "synth:tones": "synth is one of chords, tone, noise, silence; did you mean 'tone'?",
    "synth:": "synth is one of",
    "pipe:-?format=s16": "format is one of u8, s16le, s24le, s32le, f32le, f64le; did you mean 's16le'",
    "pipe:-?rate=0": "rate is a whole number from 1000 to 768000, not '0'",
    "pipe:-?rate=": "rate is a whole number",
    "pipe:-?rate=48e3": "rate is a whole number",
    "pipe:-?channels=65": "channels is a whole number from 1 to 64, not '65'",
    "file:a.wav?rate=8000": "file: has no option 'rate'; its options are mix, name",
    "device:?seconds=2": "device: has no option 'seconds'",
    "device:?mix=left": "mix is mean, active, or the number of a channel from 1, not 'left'",
    "device:?mix=0": "mix is mean",
    "device:?mix=65": "mix is mean",
    "synth:tone?seconds=-1": "seconds is a number from 0 up, not '-1'",
    "synth:tone?seconds=nan": "seconds is a number",
    "synth:tone?seconds=inf": "seconds is a number",
    "synth:tone?seconds=x": "seconds is a number",
    "synth:tone?name=My Room": "a stream's name has small letters",
    "synth:tone?name=a/b": "a stream's name has small letters",
    "synth:tone?name=" + "a" * 64: "a stream's name has small letters",
}


@pytest.mark.parametrize("url", BAD)
def test_wrong_addresses_are_explained(url: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse(url)
    assert BAD[url] in str(refusal.value)
    assert str(refusal.value).startswith(f"source {url!r}")
    assert "\n" not in str(refusal.value)


@given(
    st.from_regex(r"(device|file|pipe|synth):[^?]{0,10}(\?(rate|mix|name|format|channels|seconds)=\w{0,4})?", fullmatch=True)
    | st.text(max_size=20)
)
@settings(max_examples=examples(600))
def test_any_text_is_an_address_or_a_usage_error(text: str) -> None:
    try:
        address = parse(text)
    except UsageError:
        return
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", address.name), "fit for a topic"
    assert address.kind == "device" or address.target


def test_every_format_and_synth_is_accepted() -> None:
    assert [parse(f"pipe:-?format={name}").format for name in PCM_FORMATS] == list(PCM_FORMATS)
    assert [parse(f"synth:{name}").target for name in SYNTHS] == list(SYNTHS)


def test_a_file_may_have_a_question_mark_in_its_name(tmp_path: Path) -> None:
    odd = tmp_path / "what is this?mix=2.wav"
    odd.touch()
    assert parse(f"file:{odd}").target == str(odd)
    assert parse(f"file:{odd}?mix=2").target == str(odd)


NAMES = [
    "plain.wav",
    "What is love?.wav",
    "Who are you?",
    "50% #1: a+b & c=d;e.wav",
    "%41.wav",
    "a?mix=2",
    "a?mix=2.wav",
    "caf\udce9?.wav",
    " leading and trailing ",
    "device:x",
    "~",
    "a?",
    "file:",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_a_file_of_exactly_this_name_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str) -> None:
    (tmp_path / name).touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    path = str(tmp_path / name)
    assert parse(f"{kind}:{path}") == parse(f"{kind}:~/{name}")
    assert parse(f"{kind}:{path}").target == path
    assert parse(f"{kind}:{name}").target == name
    address = parse(f"{kind}:~/{name}?name=x&mix=2")
    assert (address.target, address.name, address.mix) == (path, "x", "2")
    if kind == "file":
        assert [parse(f"{start}{name}").target for start in ("~/", "./", f"{tmp_path}/")] == [path, f"./{name}", path]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_can_be_written_before_there_is_such_a_file(name: str) -> None:
    """With a question mark at its end, or options."""
    assert parse(f"pipe:/none/{name}?").target == f"/none/{name}"
    assert parse(f"pipe:/none/{name}?channels=1").target == f"/none/{name}"
    assert parse(f"device:{name}?").target == name
    if "?mix" not in name and not name.endswith("?"):
        assert parse(f"pipe:/none/{name}").target == f"/none/{name}"
        assert parse(f"device:{name}").target == name


@pytest.mark.parametrize("name", NAMES)
def test_a_url_of_a_file_is_decoded_as_its_programs_write_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert parse(path.as_uri() if "\udce9" not in name else f"file://{tmp_path}/caf%E9%3F.wav").target == str(path)
    assert parse(f"file://localhost{tmp_path}/a%20b.wav?mix=2").target == f"{tmp_path}/a b.wav"
    raw = tmp_path / "a%20b.wav"
    raw.touch()
    assert parse(f"file://{raw}").target in (str(raw), f"//{raw}"), "a file of exactly this name wins"


def test_a_file_without_a_kind_is_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("live: a?.wav").touch()
    with pytest.raises(UsageError, match=r"unknown kind of source; .*; for the file of this name write file:live: a\?\.wav"):
        parse("live: a?.wav")


def test_a_home_that_is_not_there_stays_as_it_is() -> None:
    assert parse("file:~nobody-of-this-name/a.wav").target == "~nobody-of-this-name/a.wav"


def test_a_fifo_feeds_one_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it is written; two readers would each hear a part of the sound."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (tmp_path / "link").symlink_to(fifo)
    os.link(fifo, tmp_path / "hard")
    monkeypatch.chdir(tmp_path)
    for other in (str(fifo), "fifo", "./fifo", "link", "hard", f"../{tmp_path.name}/fifo", "fifo?rate=8000&name=b"):
        with pytest.raises(UsageError, match=r"source pipe:.*: the same FIFO feeds pipe:.*; .*tee"):
            distinct([parse(f"pipe:{fifo}"), parse("synth:tone"), parse(f"pipe:{other}")])
    with pytest.raises(UsageError, match="the same FIFO"):
        distinct([parse("pipe:not-yet"), parse(f"pipe:{tmp_path}/x/../not-yet")])
    os.mkfifo(tmp_path / "second")
    (tmp_path / "raw").touch()
    good = ["pipe:fifo", "pipe:second", "pipe:raw", "pipe:raw?channels=1", "pipe:not-yet", "pipe:-"]
    assert len(distinct([parse(url) for url in good])) == len(good)


def test_a_fifo_is_not_read_as_standard_input_too(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    program = "from mertd.capture.address import distinct, parse; distinct([parse('pipe:-'), parse('pipe:fifo')])"
    with os.fdopen(os.open(fifo, os.O_RDWR)) as stdin:
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, stdin=stdin, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "UsageError: source pipe:fifo: the same FIFO feeds pipe:-" in done.stderr


@pytest.mark.parametrize("path", ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
def test_paths_of_standard_input_are_standard_input(path: str) -> None:
    """A capture process has another one."""
    assert parse(f"pipe:{path}").is_stdin
    with pytest.raises(UsageError, match="only one source"):
        distinct([parse("pipe:-"), parse(f"pipe:{path}")])


def test_only_a_dash_is_standard_input() -> None:
    assert parse("pipe:-").is_stdin
    assert not parse("pipe:./-").is_stdin
    assert not parse("file:-").is_stdin


def test_names_are_made_distinct() -> None:
    urls = ["synth:tone", "synth:tone", "synth:noise", "synth:tone", "synth:noise?name=tone-2"]
    names = [address.name for address in distinct([parse(url) for url in urls])]
    assert names == ["tone", "tone-2", "noise", "tone-3", "tone-2-2"]
    assert len(set(names)) == len(names)


def test_standard_input_feeds_one_source() -> None:
    with pytest.raises(UsageError, match="only one source"):
        distinct([parse("pipe:-"), parse("pipe:-?name=b")])
    assert len(distinct([parse("pipe:-"), parse("pipe:/a")])) == 2


def test_an_address_says_what_it_is_without_its_options() -> None:
    assert str(parse("pipe:/run/x?rate=8000")) == "pipe:/run/x"
