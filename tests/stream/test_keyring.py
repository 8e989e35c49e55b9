"""The key folder: what is written, what is refused, and that nobody reads half a file."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import zmq

from mertd.errors import KeysError
from mertd.files import MAX_TEXT_BYTES
from mertd.stream.curve_keys import ClientKeys, check_pair, check_public, make_pair
from mertd.stream.keyring import AllowedClient, Keyring


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    ring = Keyring(tmp_path / "config" / "keys")
    ring.new_server()
    return ring


def test_a_daemon_and_this_machine_s_client_get_keys_that_fit(ring: Keyring) -> None:
    server, local = ring.server(), ring.client()
    assert (local.server, local.name) == (server.public, "local")
    for pair in (server, local):
        assert zmq.curve_public(pair.secret.encode()).decode() == pair.public
    assert ring.clients() == {"local": AllowedClient("local", local.public, True)}
    assert ClientKeys.load(folder=str(ring.folder)) == local


def test_files_are_for_their_owner_alone_and_can_be_read(ring: Keyring) -> None:
    ring.new_client("viewer")
    assert stat.S_IMODE(ring.folder.stat().st_mode) == 0o700
    files = {path.name: path for path in ring.folder.iterdir()}
    assert files.keys() == {".lock", "server.key", "client-local.key", "client-viewer.key", "allowed.toml"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o600}
    assert tomllib.loads(files["server.key"].read_text(encoding="utf-8")).keys() == {"name", "public", "secret"}
    assert tomllib.loads(files["client-viewer.key"].read_text(encoding="utf-8")).keys() == {
        "name",
        "public",
        "secret",
        "server",
    }
    listed = tomllib.loads(files["allowed.toml"].read_text(encoding="utf-8"))
    assert listed == {"local": {"public": ring.client().public, "control": True}}


def test_the_default_folder_is_the_user_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Keyring().folder.is_relative_to(tmp_path)
    assert Keyring().folder.name == "keys"


def test_allowing_and_revoking(ring: Keyring) -> None:
    pair = make_pair()
    assert ring.allow("studio", pair.public) == AllowedClient("studio", pair.public, False)
    assert ring.allow("studio", control=True, public=pair.public).control
    assert list(ring.clients()) == ["local", "studio"]
    for name, public, says in (
        ("studio", make_pair().public, "studio is allowed with another key"),
        ("again", pair.public, "allowed already, as studio"),
        ("nobody", None, "no key 'nobody' in .*; pass its public key"),
        ("x", "short", "'short' is not a public key"),
        ("x", pair.public[:-1] + "~", "is not a public key"),
        ("x", "#" * 40, "is not a public key"),
        ("a.b", pair.public, "cannot be the name of a client"),
        ("server", pair.public, "cannot be the name of a client"),
        ("../x", pair.public, "cannot be the name of a client"),
        ("", pair.public, "cannot be the name of a client"),
    ):
        with pytest.raises(KeysError, match=says):
            ring.allow(name, public)
    assert ring.revoke("studio").public == pair.public
    with pytest.raises(KeysError, match="studio is not on the list; on it are local"):
        ring.revoke("studio")
    assert list(ring.clients()) == ["local"]


def test_no_key_is_overwritten(ring: Keyring) -> None:
    before = {path: path.read_bytes() for path in ring.folder.iterdir()}
    with pytest.raises(KeysError, match=r"server\.key exists already"):
        ring.new_server()
    with pytest.raises(KeysError, match=r"client-local\.key exists already"):
        ring.new_client("local")
    (ring.folder / "server.key").unlink()
    with pytest.raises(KeysError, match="local has a key"):
        ring.new_server()
    del before[ring.folder / "server.key"]
    assert before == {path: path.read_bytes() for path in ring.folder.iterdir()}


def test_a_client_elsewhere_knows_its_daemon_by_name_or_is_told(ring: Keyring, tmp_path: Path) -> None:
    elsewhere = Keyring(tmp_path / "laptop")
    elsewhere.new_client("laptop", ring.server().public)
    assert elsewhere.client("laptop").server == ring.server().public
    elsewhere.new_client("lost")
    with pytest.raises(KeysError, match=r"does not say to which daemon it belongs; .* --server-key"):
        elsewhere.client("lost")
    assert elsewhere.client("lost", ring.server().public).server == ring.server().public
    with pytest.raises(KeysError, match=r"no key 'phone'.*`mertd keys new phone` makes one"):
        elsewhere.client("phone")
    with pytest.raises(KeysError, match="is not a public key"):
        elsewhere.new_client("wrong", "no key")
    assert elsewhere.own() == ["laptop", "lost"]
    assert elsewhere.clients() == {}


@pytest.mark.parametrize("name", ["", "server.key", "client-local.key", "allowed.toml"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_what_others_may_read_is_refused(ring: Keyring, name: str, mode: int) -> None:
    path = ring.folder / name
    path.chmod(mode | (0o110 if path.is_dir() else 0))
    says = re.escape(f"{path} is open to other users") + rf".*: chmod {600 if name else 700} it"
    for read, needs in ((ring.server, "server.key"), (ring.client, "client-local.key"), (ring.clients, "allowed.toml")):
        if name in ("", needs):
            with pytest.raises(KeysError, match=says):
                read()
        else:
            assert read()


GOOD = make_pair()
OTHER = make_pair()


def filled(text: str) -> str:
    """With keys for their places: they are random, and names of tests must not be."""
    for place, key in {
        "<public>": GOOD.public,
        "<secret>": GOOD.secret,
        "<other public>": OTHER.public,
        "<other secret>": OTHER.secret,
    }.items():
        text = text.replace(place, key)
    return text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\x00",
        "not toml",
        "public = 1\nsecret = 2",
        'public = "<public>"',
        'public = "<public>"\nsecret = "short"',
        'public = "<public>"\nsecret = "~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~"',
        'public = "<public>"\nsecret = "########################################"',
        'public = "<public>"\nsecret = "<other secret>"',
        'public = "x"\nsecret = "<secret>"',
        'public = "<public>"\nsecret = "<secret>"\nserver = 3',
        pytest.param("# " + "x" * MAX_TEXT_BYTES, id="long"),
    ],
)
def test_a_malformed_key_is_refused_and_not_quoted(ring: Keyring, text: str) -> None:
    for name in ("server.key", "client-local.key"):
        (ring.folder / name).write_text(filled(text), encoding="utf-8")
    for read in (ring.server, ring.client):
        with pytest.raises(KeysError) as refused:
            read()
        assert str(ring.folder) in str(refused.value)
        assert GOOD.secret not in str(refused.value)
        assert OTHER.secret not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "[x",
        "x = 1",
        "[x]\n",
        "[x]\npublic = 1",
        "[x]\npublic = 'short'",
        "[x]\npublic = '<public>'\ncontrol = 1",
        "[x]\npublic = '<public>'\ncontrl = true",
        "[server]\npublic = '<public>'",
        "['a b']\npublic = '<public>'",
        "[x]\npublic = '<public>'\n[y]\npublic = '<public>'",
        "[x]\npublic = '<public>'\n[x]\npublic = '<other public>'",
    ],
)
def test_a_malformed_list_is_refused_as_a_whole(ring: Keyring, text: str) -> None:
    ring.list_path.write_text(filled(text), encoding="utf-8")
    with pytest.raises(KeysError, match=r"allowed\.toml"):
        ring.clients()
    with pytest.raises(KeysError, match=r"allowed\.toml"):
        ring.allow("z", OTHER.public)
    assert ring.list_path.read_text(encoding="utf-8") == filled(text), "what a person has written is not thrown away"


def test_a_list_written_by_hand(ring: Keyring) -> None:
    ring.list_path.write_text(f"# mine\n[x]\npublic = '{GOOD.public}'\n", encoding="utf-8")
    assert ring.clients() == {"x": AllowedClient("x", GOOD.public, False)}


def test_several_processes_may_write_at_once(ring: Keyring) -> None:
    """Each allows some clients while this one reads: nobody's are lost, and no half of a list is seen."""
    program = (
        "import sys; from mertd.stream.keyring import Keyring; from mertd.stream.curve_keys import make_pair\n"
        "print('ready', flush=True); sys.stdin.read()\n"
        "for i in range(15): Keyring(sys.argv[1]).allow(f'{sys.argv[2]}-{i}', make_pair().public)"
    )
    command = [sys.executable, "-c", program, str(ring.folder)]
    writers = [subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for name in "abc"]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        writer.stdout.close()
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.close()
    seen = 0
    while any(writer.poll() is None for writer in writers):
        assert len(ring.clients()) >= seen
        seen = len(ring.clients())
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert ring.clients().keys() == {"local", *(f"{name}-{i}" for name in "abc" for i in range(15))}
    assert not list(ring.folder.rglob("*partial*"))


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KeysError, match="cannot be written"):
        Keyring(tmp_path / "file" / "keys").new_server()


def test_pairs() -> None:
    assert check_pair(GOOD.public, GOOD.secret) == GOOD
    assert check_public(GOOD.public) == GOOD.public
    assert all(make_pair().public[0].isalnum() for _ in range(100)), "or a command would take it for an option"
