"""`mertd model …` as a process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_process import complaints, mertd
from daemon_process import SHORT, music, write_wav


@pytest.mark.slow
def test_random_weights_in_a_file_are_those_of_the_seed(tmp_path: Path) -> None:
    made = [
        mertd("model", "random", "--seed", seed, "--size", "tiny", "--out", tmp_path / n) for seed, n in ((7, "a"), (7, "b"))
    ]
    assert [done.returncode for done in made] == [0, 0]
    assert "UNTRAINED" in made[0].stdout
    assert made[0].stdout.split(": ")[1] == made[1].stdout.split(": ")[1]  # the digest, among others
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    wav = write_wav(tmp_path / "song.wav", music(1.5))
    found = []
    for weights in (tmp_path / "a", "random:7?size=tiny", "random:8?size=tiny"):
        done = mertd("embed", wav, *SHORT, "--weights", weights, "--layers", "1,2")
        assert done.returncode == 0, done.stderr
        found.append([json.loads(line) for line in done.stdout.splitlines()])
    from_file, from_seed, other = found
    assert [m["model"] for m in from_file] == [m["model"] for m in from_seed]
    assert [m["vector"] for m in from_file] == [m["vector"] for m in from_seed]
    assert not from_file[0]["model"]["trained"]
    assert from_file[0]["model"]["weights"].startswith(made[0].stdout.split()[-1])
    assert from_file[0]["model"]["space"] != other[0]["model"]["space"]


@pytest.mark.slow
def test_random_weights_that_cannot_be_made(tmp_path: Path) -> None:
    size = mertd("model", "random", "--size", "huge", "--out", tmp_path / "a")
    folder = mertd("model", "random", "--size", "tiny", "--out", tmp_path / "nowhere" / "a")
    assert (size.returncode, folder.returncode) == (2, 3)
    assert "size is one of full, tiny" in complaints(size.stderr)[0]
    assert "cannot write" in complaints(folder.stderr)[0]
    assert not list(tmp_path.iterdir())
