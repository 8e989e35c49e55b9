"""MERT's trained weights from the Hugging Face hub, through its own client: its cache, its mirrors, its progress bars.

The converted file is tried first, the original checkpoint second. A file is checked (against its known or announced sha256, and
every tensor by name, shape and value) before it replaces `destination` in one step.
"""

from __future__ import annotations

import dataclasses
import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from mertd.embed.weights import loading
from mertd.embed.weights.checkpoint import ORIGINAL, Fingerprint, fingerprint, import_checkpoint
from mertd.embed.weights.tensors import LICENCE, Weights
from mertd.errors import MertdError, WeightsError

OFFLINE_HELP = "`mertd model import FILE` converts a checkpoint that you already have"
"""Ends an error about the hub."""


class HubError(MertdError):
    """The weights cannot be fetched from the hub, or cannot be stored."""


class DiskFullError(HubError):
    """The disk is full: the file of another repository would not fit either."""


@dataclass(frozen=True)
class HubFile:
    """A file on the hub. `expected`: its fingerprint; None for the one that the hub announces."""

    repository: str
    file: str
    expected: Fingerprint | None = None

    def __str__(self) -> str:
        return f"{self.repository}/{self.file}"


HUB_FILES = (
    HubFile("khersh/MERT-v1-95M-apple-silicon", "mlx/MERT-v1-95M.safetensors"),
    HubFile("m-a-p/MERT-v1-95M", "pytorch_model.bin", ORIGINAL),
)
"""Where the weights are, in the order in which they are tried."""


@dataclass(frozen=True)
class PulledWeights:
    """Weights now at `path`. `digest`: as in `Weights`. `passed_over`: why earlier files were not used, a line each."""

    path: Path
    digest: str
    file: HubFile
    passed_over: tuple[str, ...]
    licence: str = LICENCE


def pull(destination: Path, files: Sequence[HubFile] = HUB_FILES) -> PulledWeights:
    """Fetch MERT's weights from the first of `files` that can be used and write them to `destination` as safetensors.

    Without a network the client's cache is enough. An interrupted download is resumed several times before it fails. Raises
    `HubError` if no file can be used or `destination` cannot be written; it is then unchanged.
    """
    _make_folder(destination)
    passed_over: list[str] = []
    for file in files:
        try:
            found = dataclasses.replace(import_checkpoint(_fetch(file)), origin=str(file))
        except DiskFullError:
            raise
        except (HubError, WeightsError) as error:
            passed_over.append(f"{file}: {error}")
            continue
        _save(found, destination)
        return PulledWeights(destination, found.digest, file, tuple(passed_over))
    raise HubError(f"no weights from the hub: {'; '.join(passed_over)}; {OFFLINE_HELP}")


def _make_folder(destination: Path) -> None:
    """Raise `HubError` before the download if the weights could not be written after it."""
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HubError(f"cannot write {destination}: {error.strerror or error}") from error
    if destination.is_dir():
        raise HubError(f"cannot write {destination}: it is a directory")


def _save(found: Weights, destination: Path) -> None:
    try:
        loading.save(found, destination)
    except WeightsError as error:
        if _is_full(error.__cause__):
            raise DiskFullError(f"cannot write {destination}: the disk is full") from error
        raise HubError(f"cannot write {destination}: {error}") from error


def _fetch(hub_file: HubFile) -> Path:
    """Return the file in the client's cache, downloaded if necessary. A damaged file is downloaded once more."""
    from huggingface_hub import try_to_load_from_cache

    offline, announced = _ask(hub_file)
    expected = hub_file.expected or announced
    with _gate():
        cached = isinstance(try_to_load_from_cache(hub_file.repository, hub_file.file), str)
    path = _download(hub_file, offline)
    if expected is None or fingerprint(path) == expected:
        return path
    if cached and not offline:
        path = _download(hub_file, offline, force=True)
    if (found := fingerprint(path)) != expected:
        raise HubError(
            f"the downloaded file differs from the published one: {found.size} bytes, sha256 {found.sha256}; "
            f"expected {expected.size} bytes, sha256 {expected.sha256}"
        )
    return path


def _ask(hub_file: HubFile) -> tuple[str, Fingerprint | None]:
    """Return why the hub does not answer (empty if it does), and the fingerprint that it announces.

    Without this question the client would try for half a minute before it reported that the hub cannot be reached.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    with _gate():
        try:
            announced = get_hf_file_metadata(hf_hub_url(hub_file.repository, hub_file.file), library_name="mertd")
        except HfHubHTTPError as error:
            if error.response.status_code < 500:
                raise
            return f"the hub is down ({error.response.status_code})", None
        except OfflineModeIsEnabled:
            return "HF_HUB_OFFLINE is set", None
        except _transport_error() as error:
            return f"the hub cannot be reached ({error or type(error).__name__})", None
    is_sha256 = (
        re.fullmatch("[0-9a-f]{64}", announced.etag or "") is not None
    )  # for large files; for small ones it is a git hash
    return "", Fingerprint(announced.size, str(announced.etag)) if is_sha256 and announced.size else None


def _download(hub_file: HubFile, offline: str, force: bool = False) -> Path:
    from huggingface_hub import hf_hub_download

    with _gate(offline):
        path = hf_hub_download(
            hub_file.repository, hub_file.file, library_name="mertd", force_download=force, local_files_only=bool(offline)
        )
    return Path(path)


@contextmanager
def _gate(offline: str = "") -> Iterator[None]:
    """Turn the errors of huggingface_hub, its HTTP client and its storage client into `HubError`; nothing else does."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise HubError("this repository requires that you log in (hf auth login) and accept its terms") from error
    except (RepositoryNotFoundError, RemoteEntryNotFoundError, RevisionNotFoundError) as error:
        raise HubError(f"the hub does not have the file, or you may not read it ({error.response.status_code})") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        advice = "check your token (hf auth whoami)" if status in (401, 403) else "try again later"
        raise HubError(f"the hub answered {status}; {advice}") from error
    except LocalEntryNotFoundError as error:
        raise HubError(f"{offline or 'the hub does not answer'}, and the file is not in the local cache") from error
    except _transport_error() as error:
        raise HubError(f"the connection to the hub was lost ({type(error).__name__}); try again") from error
    except _invalid_url() as error:
        raise HubError(f"an address of the hub or of a proxy in the environment is invalid ({error})") from error
    except (
        OSError,
        RuntimeError,
        ValueError,
        ImportError,
    ) as error:  # the clients raise all of them
        if _is_full(error):
            raise DiskFullError("the disk is full; the weights and their download need about 1 GB") from error
        raise HubError(" ".join(str(error).split()) or type(error).__name__) from error


def _transport_error() -> type[Exception]:
    """Return the base class of the errors of the client's HTTP library, which differs between its versions."""
    from huggingface_hub.errors import HfHubHTTPError

    return next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")


def _invalid_url() -> type[Exception]:
    """Return what the HTTP library raises for an address that is none, which is no error of the other kind."""
    found: type[Exception] = import_module(_transport_error().__module__).InvalidURL
    return found


def _is_full(error: BaseException | None) -> bool:
    """Return whether a disk, a quota or a limit on file sizes was full. Rust's errors say so in text."""
    numbers = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return getattr(error, "errno", None) in numbers or any(f"(os error {number})" in str(error) for number in numbers)
