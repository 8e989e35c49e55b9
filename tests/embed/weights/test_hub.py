"""The real hub client, in a process of its own with an empty cache, against a hub on this machine that can misbehave."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from embed.weights.torch_file import as_checkpoint, write_state_dict
from mertd.embed.weights import loading
from mertd.embed.weights.checkpoint import ORIGINAL
from mertd.embed.weights.hub import HUB_FILES

CONVERTED, CHECKPOINT = "khersh/converted", "m-a-p/original"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
MEGABYTE = 1 << 20

PULL = """
import json, resource, sys
from pathlib import Path
from mertd.embed.weights.checkpoint import Fingerprint
from mertd.errors import MertdError
from mertd.embed.weights.hub import HubFile, pull

job = json.loads(sys.argv[1])
sources = [HubFile(repository, file, expected and Fingerprint(*expected)) for repository, file, expected in job["sources"]]
if job["limit"]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (job["limit"], job["limit"]))
try:
    got = pull(Path(job["destination"]), sources)
except MertdError as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}))
else:
    print(json.dumps({"digest": got.digest, "from": str(got.file), "over": got.passed_over, "licence": got.licence}))
"""


@dataclass
class Hub:
    """What the hub serves, how it fails, and what it was asked. `files`: by "REPOSITORY/FILE"."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut: list[int] = field(default_factory=list)  # bytes after which the connection of the next download is closed
    reset: bool = False  # the connection is not closed then, but reset
    status: int = 0  # answered to everything, if not 0
    truth: dict[str, str] = field(default_factory=dict)  # the sha256 to announce, where it is not that of the file
    downloads: list[tuple[str, str | None, int]] = field(default_factory=list)  # file, Range, bytes sent
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = re.fullmatch("/([^/]+/[^/]+)/resolve/main/(.+)", self.path)
        name = f"{path[1]}/{path[2]}" if path else ""
        if self.hub.status or name not in self.hub.files:
            known = any(file.startswith(f"{path[1]}/") for file in self.hub.files) if path else False
            self.send_response(self.hub.status or 404)
            if not self.hub.status:
                self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = self.hub.files[name]
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        start = int(wanted[1]) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{self.hub.truth.get(name) or hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content) - start))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "GET":
            end = start + self.hub.cut.pop(0) if self.hub.cut else len(content)
            self.hub.downloads.append((name, self.headers["Range"], len(content[start:end])))
            self.wfile.write(content[start:end])
            self.close_connection = end < len(content)
            if self.close_connection and self.hub.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                os.close(self.connection.detach())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("_", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class Files:
    """The same tiny weights in both forms, and what an import of either has to give."""

    digest: str
    converted: bytes
    checkpoint: bytes
    large: bytes


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("files")
    tiny = loading.load("random:0?size=tiny")
    loading.save(tiny, folder / "converted")
    state = as_checkpoint(tiny.tensors)
    checkpoint = write_state_dict(folder / "checkpoint", state).read_bytes()
    # The client keeps what has come in pieces of 10 MB, so only a larger file can be resumed.
    large = write_state_dict(folder / "large", state, padding=os.urandom(25 * MEGABYTE)).read_bytes()
    return Files(tiny.digest, (folder / "converted").read_bytes(), checkpoint, large)


def fingerprint(content: bytes) -> tuple[int, str]:
    return len(content), hashlib.sha256(content).hexdigest()


@dataclass
class Puller:
    folder: Path
    hub: Hub
    expected: tuple[int, str]

    @property
    def destination(self) -> Path:
        return self.folder / "models" / "mert.safetensors"

    def __call__(self, limit: int = 0, **environment: str) -> dict[str, Any]:
        sources = [(CONVERTED, "mlx/MERT.safetensors", None), (CHECKPOINT, "pytorch_model.bin", self.expected)]
        job = {"sources": sources, "destination": str(self.destination), "limit": limit}
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        clean |= {"HF_ENDPOINT": self.hub.url, "HF_HOME": str(self.folder / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        existed = self.destination.exists()
        command = [sys.executable, "-W", "error", "-c", PULL, json.dumps(job)]
        done = subprocess.run(command, capture_output=True, text=True, env={**clean, **environment}, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        assert "\n" not in result.get("message", "")
        assert ("error" in result) <= (existed == self.destination.exists()), "written only when all went well"
        assert not list(self.destination.parent.glob("*.partial")), "nothing half-written"
        return result


@pytest.fixture
def pull(tmp_path: Path, hub: Hub, files: Files) -> Puller:
    return Puller(tmp_path, hub, fingerprint(files.checkpoint))


def test_takes_the_converted_file_first_and_once(hub: Hub, files: Files, pull: Puller) -> None:
    hub.files = {f"{CONVERTED}/mlx/MERT.safetensors": files.converted, f"{CHECKPOINT}/pytorch_model.bin": files.checkpoint}
    got = pull()
    assert got == {"digest": files.digest, "from": f"{CONVERTED}/mlx/MERT.safetensors", "over": [], "licence": "CC-BY-NC-4.0"}
    assert loading.load(str(pull.destination)).digest == files.digest
    assert pull() == got
    assert len(hub.downloads) == 1, "the second time it comes from the cache"


def test_falls_back_to_the_original_checkpoint(hub: Hub, files: Files, pull: Puller) -> None:
    hub.files = {f"{CHECKPOINT}/pytorch_model.bin": files.checkpoint}
    got = pull()
    assert (got["digest"], got["from"]) == (files.digest, f"{CHECKPOINT}/pytorch_model.bin")
    assert got["over"] == [f"{CONVERTED}/mlx/MERT.safetensors: the hub does not have the file, or you may not read it (404)"]
    loaded = loading.load(str(pull.destination))
    assert (loaded.digest, loaded.trained) == (files.digest, True)


@pytest.mark.slow
def test_falls_back_when_the_converted_file_is_not_merts(hub: Hub, files: Files, pull: Puller) -> None:
    hub.files = {f"{CONVERTED}/mlx/MERT.safetensors": b"<html>", f"{CHECKPOINT}/pytorch_model.bin": files.checkpoint}
    got = pull()
    assert got["digest"] == files.digest
    assert "neither a PyTorch checkpoint nor a readable safetensors file" in got["over"][0]


@pytest.mark.slow
def test_an_interrupted_download_goes_on_where_it_stopped(hub: Hub, files: Files, pull: Puller) -> None:
    name = f"{CHECKPOINT}/pytorch_model.bin"
    hub.files, hub.cut = {name: files.large}, [15 * MEGABYTE]
    pull.expected = fingerprint(files.large)
    assert pull()["digest"] == files.digest
    size, kept = len(files.large), 10 * MEGABYTE
    assert hub.downloads == [(name, None, 15 * MEGABYTE), (name, f"bytes={kept}-", size - kept)]


@pytest.mark.slow
def test_a_download_that_never_completes(hub: Hub, files: Files, pull: Puller) -> None:
    hub.files, hub.cut = {f"{CHECKPOINT}/pytorch_model.bin": files.checkpoint}, [1000] * 6
    got = pull()
    assert got["error"] == "HubError"
    assert "the connection to the hub was lost" in got["message"]
    assert pull()["digest"] == files.digest, "and later it works again"


@pytest.mark.slow
def test_a_reset_connection(hub: Hub, files: Files, pull: Puller) -> None:
    hub.files, hub.cut, hub.reset = {f"{CHECKPOINT}/pytorch_model.bin": files.checkpoint}, [1000], True
    assert "the connection to the hub was lost" in pull()["message"]


def test_a_wrong_digest_is_refused(hub: Hub, files: Files, pull: Puller) -> None:
    other = files.checkpoint.replace(b"\x00\x3c", b"\x01\x3c")
    hub.files = {f"{CHECKPOINT}/pytorch_model.bin": other}
    got = pull()
    assert got["error"] == "HubError"
    assert fingerprint(other)[1] in got["message"]
    assert fingerprint(files.checkpoint)[1] in got["message"]
    assert len(hub.downloads) == 1


def test_a_converted_file_that_is_not_what_the_hub_announces(hub: Hub, files: Files, pull: Puller) -> None:
    name = f"{CONVERTED}/mlx/MERT.safetensors"
    hub.files, hub.truth = {name: files.converted}, {name: "0" * 64}
    assert f"expected {len(files.converted)} bytes, sha256 {'0' * 64}" in pull()["message"]


@pytest.mark.slow
def test_a_damaged_cache_is_repaired(hub: Hub, files: Files, pull: Puller) -> None:
    name = f"{CHECKPOINT}/pytorch_model.bin"
    hub.files = {name: files.checkpoint}
    pull()
    (blob,) = (pull.folder / "cache" / "hub").glob("models--*/blobs/*")
    blob.write_bytes(files.checkpoint[:-100])
    pull.destination.unlink()
    assert pull(HF_HUB_OFFLINE="1")["error"] == "HubError", "offline, nothing can be done about it"
    assert pull()["digest"] == files.digest
    assert len(hub.downloads) == 2


@pytest.mark.slow
def test_offline_the_cache_is_enough(hub: Hub, files: Files, pull: Puller) -> None:
    hub.files = {f"{CHECKPOINT}/pytorch_model.bin": files.checkpoint}
    assert "HF_HUB_OFFLINE is set" in pull(HF_HUB_OFFLINE="1")["message"]
    pull()
    assert pull(HF_HUB_OFFLINE="1")["digest"] == files.digest
    hub.status = 503
    assert pull()["digest"] == files.digest


def test_offline_without_a_cache(pull: Puller) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        pull.hub.url = f"http://127.0.0.1:{closed.getsockname()[1]}"  # bound and not listening: refused
        got = pull()
    assert got["error"] == "HubError"
    assert got["message"].count(f"the hub cannot be reached ([Errno {errno.ECONNREFUSED}] Connection refused), and") == 2
    assert "mertd model import FILE" in got["message"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "check your token"), (429, "answered 429; try again later"), (503, "is down (503)")],
)
def test_a_hub_that_refuses(hub: Hub, pull: Puller, status: int, reason: str) -> None:
    hub.status = status
    got = pull()
    assert got["error"] == "HubError"
    assert got["message"].count(reason) == 2


@pytest.mark.slow
def test_a_full_disk_ends_the_download(hub: Hub, files: Files, pull: Puller) -> None:
    hub.files = {f"{CONVERTED}/mlx/MERT.safetensors": files.converted, f"{CHECKPOINT}/pytorch_model.bin": files.checkpoint}
    got = pull(limit=len(files.converted) // 2)
    assert got["error"] == "DiskFullError"
    assert [name for name, _, _ in hub.downloads] == [f"{CONVERTED}/mlx/MERT.safetensors"], "no second try"
    assert not [path for path in (pull.folder / "cache").rglob("*") if path.name.endswith(".incomplete")]
    assert pull()["digest"] == files.digest, "and with room it works"


@pytest.mark.slow
def test_a_disk_that_fills_after_the_download(hub: Hub, files: Files, pull: Puller) -> None:
    hub.files = {f"{CHECKPOINT}/pytorch_model.bin": files.checkpoint}
    pull()
    pull.destination.unlink()
    got = pull(limit=len(files.converted) // 2)
    assert got["error"] == "DiskFullError"
    assert str(pull.destination) in got["message"]


def test_a_failure_leaves_the_destination_as_it_was(pull: Puller) -> None:
    pull.destination.parent.mkdir()
    pull.destination.write_bytes(b"precious")
    assert pull()["error"] == "HubError"
    assert pull.destination.read_bytes() == b"precious"


def test_a_destination_that_cannot_be_is_refused_before_the_download(hub: Hub, files: Files, pull: Puller) -> None:
    hub.files = {f"{CHECKPOINT}/pytorch_model.bin": files.checkpoint}
    pull.destination.mkdir(parents=True)
    assert "it is a directory" in pull()["message"]
    pull.destination.rmdir()
    pull.destination.parent.rmdir()
    pull.destination.parent.write_text("in the way")
    assert f"cannot write {pull.destination}" in pull()["message"]
    assert hub.downloads == []


def test_the_sources_are_the_published_ones() -> None:
    assert [str(source) for source in HUB_FILES] == [
        "khersh/MERT-v1-95M-apple-silicon/mlx/MERT-v1-95M.safetensors",
        "m-a-p/MERT-v1-95M/pytorch_model.bin",
    ]
    assert HUB_FILES[1].expected == ORIGINAL


def test_importing_hub_loads_no_client() -> None:
    code = "import sys, mertd.embed.weights.hub; sys.exit('huggingface_hub' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
