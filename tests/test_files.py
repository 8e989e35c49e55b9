"""Files that come from outside are read without blocking and within a limit; files are replaced in one step."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mertd import config
from mertd.embed.weights.checkpoint import import_checkpoint
from mertd.embed.weights.loading import load, save
from mertd.errors import KeysError, MertdError, UsageError, WeightsError
from mertd.files import ABANDONED_S, FileError, read_limited, replacing
from mertd.stream.keyring import Keyring

# Reading


def test_a_regular_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 10)
    assert read_limited(path, 10) == b"x" * 10
    with pytest.raises(FileError, match=r"a: larger than 9 bytes"):
        read_limited(path, 9)


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").symlink_to("a")
    assert read_limited(tmp_path / "b") == b"x"


def test_what_does_not_exist_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_limited(tmp_path / "a")


def test_a_directory_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="Is a directory"):
        read_limited(tmp_path)


def test_the_null_device_is_an_empty_file() -> None:
    assert read_limited(Path(os.devnull)) == b""


def irregular(folder: Path, kind: str) -> Path:
    """A path of a kind that must not be read as a file."""
    path = folder / "odd"
    if kind == "a FIFO":
        os.mkfifo(path, 0o600)
    else:
        path.symlink_to("/dev/zero")
    return path


IRREGULAR = ["a FIFO", "a character device"]


@pytest.mark.parametrize("kind", IRREGULAR)
@pytest.mark.parametrize(
    ("read", "error"),
    [
        (read_limited, FileError),
        (lambda path: config.load(path, {}), UsageError),
        (import_checkpoint, WeightsError),
    ],
    ids=["any file", "configuration", "checkpoint"],
)
def test_what_is_no_regular_file_is_refused_at_once(
    tmp_path: Path, kind: str, read: Callable[[Path], object], error: type[MertdError]
) -> None:
    with pytest.raises(error, match=rf"odd is {kind}; copy its content into a regular file and name that one"):
        read(irregular(tmp_path, kind))


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path may have 107 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("odd")
        with pytest.raises(OSError, match=r"No such device or address|Operation not supported"):
            read_limited(tmp_path / "odd")


@pytest.mark.parametrize("name", ["server.key", "client-local.key", "allowed.toml"])
@pytest.mark.parametrize("kind", IRREGULAR)
def test_a_key_folder_with_an_irregular_file_is_refused_at_once(tmp_path: Path, name: str, kind: str) -> None:
    ring = Keyring(tmp_path / "keys")
    ring.new_server()
    (ring.folder / name).unlink()
    irregular(ring.folder, kind).rename(ring.folder / name)
    read = {"server.key": ring.server, "client-local.key": ring.client, "allowed.toml": ring.clients}[name]
    with pytest.raises(KeysError, match=rf"{name} is {kind}; copy"):
        read()


@pytest.mark.parametrize("name", ["server.key", "allowed.toml"])
def test_keys_nested_too_deeply_are_refused(tmp_path: Path, name: str) -> None:
    ring = Keyring(tmp_path / "keys")
    ring.new_server()
    (ring.folder / name).write_text("a = " + "[" * 100_000, encoding="utf-8")
    with pytest.raises(KeysError, match=rf"{name} is not TOML: it is nested too deeply"):
        ring.server() if name == "server.key" else ring.clients()


def test_a_configuration_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mertd.toml"
    path.write_text("#" * (1 << 20) + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"mertd\.toml: larger than 1,048,576 bytes"):
        config.load(path, {})


@pytest.mark.parametrize("kind", IRREGULAR)
def test_the_command_answers_at_once(tmp_path: Path, kind: str) -> None:
    path = irregular(tmp_path, kind)
    done = subprocess.run(
        [sys.executable, "-m", "mertd", "run", "--config", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{path} is {kind}; copy its content into a regular file and name that one" in done.stderr


def test_the_file_at_home_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    home = tmp_path / "mertd" / "mertd.toml"
    home.parent.mkdir()
    os.mkfifo(home)
    done = subprocess.run(
        [sys.executable, "-m", "mertd", "config", "check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)},
    )
    assert done.returncode == 2
    assert f"{home} is a FIFO; copy" in done.stderr


# Replacing


def temporaries(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".partial")]


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert not temporaries(tmp_path)


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"new" * (1 // 0))
    assert path.read_bytes() == b"old"
    assert not temporaries(tmp_path)


def test_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        for name, mode in {"default": None, "secret": 0o600, "public": 0o644}.items():
            with replacing(tmp_path / name, mode) as file:
                file.write(b"x")
    finally:
        os.umask(before)
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert found == {"default": 0o640, "secret": 0o600, "public": 0o644}


def test_a_name_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 127)
    with replacing(path) as file:
        file.write(b"x")
    assert path.read_bytes() == b"x"


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a[1]"
    program = (
        "import sys, os, signal; from pathlib import Path; from mertd.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as file: file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    (left,) = temporaries(tmp_path)
    (tmp_path / ".a1.0123456789abcdef.partial").touch()  # which a pattern [1] would match
    old = (tmp_path / left).stat().st_mtime - 2 * ABANDONED_S
    with replacing(path) as file:
        file.write(b"x")
    assert left in temporaries(tmp_path), "too young to be called abandoned"
    for name in temporaries(tmp_path):
        os.utime(tmp_path / name, (old, old))
    with replacing(path) as file:
        os.utime(file.fileno(), (old, old))  # locked, however old
        with replacing(path) as other:
            other.write(b"y")
        file.write(b"z")
    assert path.read_bytes() == b"z"
    assert temporaries(tmp_path) == [".a1.0123456789abcdef.partial"]


@pytest.mark.parametrize("writer", ["weights", "keys", "npz"])
def test_a_link_planted_where_a_temporary_used_to_be_is_not_written_through(tmp_path: Path, writer: str) -> None:
    """The names were foreseeable, and in a folder that others can write to, they could be links to this user's files."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    shared = tmp_path / "shared"
    shared.mkdir()
    if writer == "weights":
        (shared / "w.safetensors.partial").symlink_to(precious)
        save(load("random:0?size=tiny"), shared / "w.safetensors")
    elif writer == "npz":
        (shared / "a.npz.partial.npz").symlink_to(precious)
        (shared / "a.npz").unlink(missing_ok=True)
        weights = tmp_path / "w.safetensors"
        save(load("random:0?size=tiny"), weights)
        program = [sys.executable, "-m", "mertd", "embed", "--weights", str(weights), "--layers", "1", "--backend", "numpy"]
        subprocess.run([*program, "--out", str(shared / "a.npz"), str(tmp_path / "none.wav")], capture_output=True, check=False)
        assert (shared / "a.npz").exists()
    else:
        ring = Keyring(shared / "keys")
        ring.new_server()
        (ring.folder / "allowed.toml.partial").symlink_to(precious)
        ring.new_client("x")
        ring.allow("x")
    assert precious.read_bytes() == b"precious"


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9"
    with replacing(path) as file:
        file.write(b"x")
    assert path.read_bytes() == b"x"


def test_the_permissions_of_what_is_replaced_stay(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.touch(0o600)
    path.chmod(0o604)
    with replacing(path) as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o604, "before anything is in it"
        file.write(b"x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
