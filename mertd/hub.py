"""MERT's trained weights from the Hugging Face hub, through its own client: its cache, its mirrors, its progress bars.

The converted file is asked for first, the original checkpoint second. Whatever comes is checked (the file against its known or
announced sha256, every tensor by name, shape and value) before it takes the place of `destination` in one step.
"""

from __future__ import annotations

import dataclasses
import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mertd.embed.weights import loading
from mertd.embed.weights.checkpoint import ORIGINAL, Fingerprint, fingerprint, import_checkpoint
from mertd.embed.weights.tensors import Weights
from mertd.errors import MertdError, WeightsError

LICENCE = "CC-BY-NC-4.0"
"""Of the weights, wherever they come from: attribution, and no commercial use."""

OFFLINE_HELP = "mertd model import FILE takes a checkpoint that you bring"


class HubError(MertdError):
    """The weights cannot be had from the hub, or cannot be stored."""


class DiskFullError(HubError):
    """There is no room for the weights; another source would not fit either."""


@dataclass(frozen=True)
class Source:
    """A file on the hub. `expected`: what it must be; None, whatever the hub announces for it."""

    repository: str
    file: str
    expected: Fingerprint | None = None

    def __str__(self) -> str:
        return f"{self.repository}/{self.file}"


SOURCES = (
    Source("khersh/MERT-v1-95M-apple-silicon", "mlx/MERT-v1-95M.safetensors"),
    Source("m-a-p/MERT-v1-95M", "pytorch_model.bin", ORIGINAL),
)


@dataclass(frozen=True)
class Pulled:
    """Weights now at `path`. `digest`: as in `Weights`. `passed_over`: why earlier sources were not taken, one line each."""

    path: Path
    digest: str
    source: Source
    passed_over: tuple[str, ...]
    licence: str = LICENCE


def pull(destination: Path, sources: Sequence[Source] = SOURCES) -> Pulled:
    """Fetch MERT's weights from the first of `sources` that has them and write them to `destination` as safetensors.

    Without a network the client's cache is enough. A download that breaks off is taken up where it stopped, several times;
    after that the error is final. Raises `HubError` when no source can be used or nothing can be written; `destination` is then
    as it was.
    """
    _make_folder(destination)
    passed_over: list[str] = []
    for source in sources:
        try:
            found = dataclasses.replace(import_checkpoint(_fetch(source)), origin=str(source))
        except DiskFullError:
            raise
        except (HubError, WeightsError) as error:
            passed_over.append(f"{source}: {error}")
            continue
        _save(found, destination)
        return Pulled(destination, found.digest, source, tuple(passed_over))
    raise HubError(f"no weights from the hub; {'; '.join(passed_over)}; {OFFLINE_HELP}")


def _make_folder(destination: Path) -> None:
    """Fails before the download if nothing could be written after it."""
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HubError(f"cannot write {destination}: {error.strerror or error}") from error
    if destination.is_dir():
        raise HubError(f"cannot write {destination}: it is a folder")


def _save(found: Weights, destination: Path) -> None:
    try:
        loading.save(found, destination)
    except WeightsError as error:
        if _is_full(error.__cause__):
            raise DiskFullError(f"cannot write {destination}: the disk is full") from error
        raise HubError(f"cannot write {destination}: {error}") from error


def _fetch(source: Source) -> Path:
    """The file in the client's cache, downloaded if need be. A cached file that is damaged is downloaded once more."""
    from huggingface_hub import try_to_load_from_cache

    offline, announced = _ask(source)
    expected = source.expected or announced
    with _gate():
        cached = isinstance(try_to_load_from_cache(source.repository, source.file), str)
    path = _download(source, offline)
    if expected is None or fingerprint(path) == expected:
        return path
    if cached and not offline:
        path = _download(source, offline, force=True)
    if (found := fingerprint(path)) != expected:
        raise HubError(
            f"what came is not the file that was asked for: {found.size} bytes, sha256 {found.sha256}, "
            f"instead of {expected.size} bytes, sha256 {expected.sha256}"
        )
    return path


def _ask(source: Source) -> tuple[str, Fingerprint | None]:
    """Why the hub gives no answer (empty: it does), and what it says the file is.

    Without this question the client itself would try for half a minute before it said that there is no hub.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    with _gate():
        try:
            announced = get_hf_file_metadata(hf_hub_url(source.repository, source.file), library_name="mertd")
        except HfHubHTTPError as error:
            if error.response.status_code < 500:
                raise
            return f"the hub is down ({error.response.status_code})", None
        except OfflineModeIsEnabled:
            return "HF_HUB_OFFLINE is set", None
        except _transport_error() as error:
            return f"the hub cannot be reached ({error or type(error).__name__})", None
    is_sha256 = re.fullmatch("[0-9a-f]{64}", announced.etag or "") is not None  # so it is for large files; a git hash for small
    return "", Fingerprint(announced.size, str(announced.etag)) if is_sha256 and announced.size else None


def _download(source: Source, offline: str, force: bool = False) -> Path:
    from huggingface_hub import hf_hub_download

    with _gate(offline):
        file = hf_hub_download(
            source.repository, source.file, library_name="mertd", force_download=force, local_files_only=bool(offline)
        )
    return Path(file)


@contextmanager
def _gate(offline: str = "") -> Iterator[None]:
    """The one place where the errors of huggingface_hub, its HTTP client and its storage client become ours."""
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
        raise HubError("the hub wants you to log in and accept the terms of this repository (hf auth login)") from error
    except (RepositoryNotFoundError, RemoteEntryNotFoundError, RevisionNotFoundError) as error:
        raise HubError(f"the hub does not have it, or not for you ({error.response.status_code})") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        advice = "check your token (hf auth whoami)" if status in (401, 403) else "try again later"
        raise HubError(f"the hub answered {status}; {advice}") from error
    except LocalEntryNotFoundError as error:
        raise HubError(f"{offline or 'the hub does not answer'}, and the file is not in the local cache") from error
    except _transport_error() as error:
        raise HubError(f"the connection to the hub broke off ({type(error).__name__}); try again") from error
    except (OSError, RuntimeError, ValueError) as error:  # the storage client raises all three, its disk errors included
        if _is_full(error):
            raise DiskFullError("the disk is full; the weights and their download need about 1 GB") from error
        raise HubError(" ".join(str(error).split()) or type(error).__name__) from error


def _transport_error() -> type[Exception]:
    """The base of the errors of the client's HTTP library, which has not been the same one in all its versions."""
    from huggingface_hub.errors import HfHubHTTPError

    return next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")


def _is_full(error: BaseException | None) -> bool:
    """Whether a write failed for want of room: the disk, a quota or a limit on file sizes. Rust's errors say so in words."""
    numbers = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return getattr(error, "errno", None) in numbers or any(f"(os error {number})" in str(error) for number in numbers)
