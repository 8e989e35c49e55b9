"""What a batch is to embed: names of files, folders, FIFOs and addresses, made into a list of inputs.

Rules of this file: nothing is opened but folders, and regular files whose name does not say what they are. A FIFO is never
opened to look at it. Whatever is wrong with one name is a problem of that input alone.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mertd.capture.address import Address, file_address, parse
from mertd.capture.not_pcm import EXAMINED_BYTES
from mertd.capture.source_kinds import KINDS
from mertd.errors import UsageError
from mertd.files import KINDS as FILE_KINDS
from mertd.files import FileError, open_regular
from mertd.offline.sound_names import begins_like_sound, has_sound_suffix
from mertd.user_folders import with_home

MAX_SUFFIXES_NAMED = 8
"""Most kinds of files that are named when a folder's other files are counted."""


EMPTY = "this file is empty"

RAW = KINDS["pipe"]

MAX_NAME = 63
"""Characters of a stream's name."""


@dataclass(frozen=True)
class Input:
    """One thing to embed."""

    label: str  # as the user wrote it, or as it lies in a folder that the user wrote
    address: Address
    problem: str = ""  # why it cannot be embedded, if that is known already
    number: int = 1  # which one of the inputs of this label it is
    is_live: bool = False  # it can be heard only once, so that a signal ends it in order instead of interrupting it
    is_pipe: bool = False  # its bytes are read one after the other
    may_be_raw: bool = False  # a pipe that may carry raw PCM, as the address says

    @property
    def key(self) -> tuple[bytes, int]:
        """What tells it from other inputs of the batch."""
        return os.fsencode(self.label), self.number

    def fingerprint(self) -> tuple[int, int] | None:
        """Return size and time of change (ns) of a file, zeros for what is computed; None if it can be heard only once."""
        if self.is_live:
            return None
        if self.address.kind == "synth":
            return 0, 0
        with contextlib.suppress(OSError, ValueError):
            found = os.stat(self.address.target)  # noqa: PTH116 - the name need not be a valid Path
            return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None
        return None


def find_inputs(words: Iterable[str], tell: Callable[[str], object]) -> list[Input]:
    """Return the inputs in the words of a command line, in order, each with a stream name of its own.

    `tell` is called with a line for each folder in which something is no sound.
    """
    numbers: Counter[bytes] = Counter()
    names: dict[str, int] = {}
    may_read_stdin = True
    found = []
    for word in words:
        for item in _inputs_of(word, tell):
            numbers[item.key[0]] += 1
            if item.address.is_stdin and not item.problem:
                item = replace(item, problem="" if may_read_stdin else "standard input can be read only once")
                may_read_stdin = False
            address = replace(item.address, name=_distinct(item.address.name, names))
            found.append(replace(item, address=address, number=numbers[item.key[0]]))
    return found


def _distinct(name: str, names: dict[str, int]) -> str:
    """Return `name`, with a number added if it has been used. `names`: those in use, with the number tried last."""
    chosen = name
    while chosen in names:
        names[name] += 1
        suffix = f"-{names[name]}"
        chosen = name[: MAX_NAME - len(suffix)] + suffix
    names[chosen] = 1
    return chosen


def _inputs_of(word: str, tell: Callable[[str], object]) -> Iterator[Input]:
    name = word.split(":", 1)[0]
    if not word:
        yield _bad("''", "this name is empty")
    elif word == "-":
        yield from _address_inputs(word, "pipe:-", tell)
    elif ":" in word and name in KINDS and not os.path.lexists(word):
        yield from _address_inputs(word, word, tell)
    else:
        yield from _path_inputs(word, file_address(_plain_path(word)), tell)


def _address_inputs(label: str, url: str, tell: Callable[[str], object]) -> Iterator[Input]:
    try:
        address = parse(url)
    except UsageError as error:
        yield _bad(label, str(error))
        return
    if address.kind == "file":
        yield from _path_inputs(label, address, tell)
    else:
        is_pipe = address.kind == "pipe"
        is_again = address.seconds > 0 if address.kind == "synth" else is_pipe and os.path.isfile(address.target)  # noqa: PTH113
        yield Input(label, address, is_live=not is_again, is_pipe=is_pipe, may_be_raw=is_pipe)


def _path_inputs(label: str, address: Address, tell: Callable[[str], object]) -> Iterator[Input]:
    path = address.target
    try:
        status = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        problem = f"is a link to {os.readlink(path)}, which does not exist" if os.path.islink(path) else ""  # noqa: PTH114, PTH115
        yield Input(label, address, problem)  # without a link, opening it says which names are near
        return
    except (OSError, ValueError) as error:
        yield Input(label, address, str(getattr(error, "strerror", None) or error))
        return
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        yield from _folder_inputs(label, address, tell)
    elif stat.S_ISREG(mode):
        yield Input(label, address, "" if status.st_size else EMPTY)
    elif stat.S_ISFIFO(mode):
        yield Input(
            label,
            replace(address, kind="pipe", rate=RAW.default_rate, channels=RAW.default_channels),
            is_live=True,
            is_pipe=True,
        )
    else:
        kind = FILE_KINDS.get(stat.S_IFMT(mode), "not a regular file")
        yield Input(label, address, f"is {kind}; raw PCM is read from pipe:{path}?rate=…&channels=…&format=…")


def _folder_inputs(label: str, address: Address, tell: Callable[[str], object]) -> Iterator[Input]:
    """Yield the sound files below a folder, in the order of their names' bytes; each real folder once, whatever links to it."""
    other: Counter[str] = Counter()
    count = 0
    for item in _walk(address.target, address, set(), other):
        count += 1
        yield item
    if other:
        tell(f"{label}: {_counted(other)} skipped as no audio")
    if not count:
        yield _bad(label, "this folder holds no sound files")


def _walk(folder: str, address: Address, seen: set[tuple[int, int]], other: Counter[str]) -> Iterator[Input]:
    """Yield the inputs in `folder`. `seen`: device and number of the folders before it. `other` counts what is no sound."""
    try:
        status = os.stat(folder)  # noqa: PTH116
        if (status.st_dev, status.st_ino) in seen:
            return  # by way of a link: nothing in it is lost
        seen.add((status.st_dev, status.st_ino))
        names = sorted(os.listdir(folder), key=os.fsencode)  # noqa: PTH208
    except OSError as error:
        yield _bad(folder, f"this folder cannot be read: {error.strerror}")
        return
    for name in names:
        path = os.path.join(folder, name)  # noqa: PTH118
        if name.startswith("."):
            other["hidden"] += 1
            continue
        here = replace(file_address(path), mix=address.mix)
        try:
            status = os.stat(path)  # noqa: PTH116
        except OSError as error:
            if has_sound_suffix(name) or not os.path.islink(path):  # noqa: PTH114
                link = f"is a link to {os.readlink(path)}: " if os.path.islink(path) else ""  # noqa: PTH114, PTH115
                yield Input(path, here, f"{link}{error.strerror}")
            else:
                other["broken link"] += 1
            continue
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            yield from _walk(path, address, seen, other)
        elif not stat.S_ISREG(mode):
            other[FILE_KINDS.get(stat.S_IFMT(mode), "special file").split(" ", 1)[-1]] += 1
        elif has_sound_suffix(name) or _begins_like_sound(path):
            yield Input(path, here, "" if status.st_size else EMPTY)
        else:
            other[os.path.splitext(name)[1].lower() or "without a suffix"] += 1  # noqa: PTH122


def _begins_like_sound(path: str) -> bool:
    try:
        with open_regular(Path(path)) as file:
            return begins_like_sound(file.read(EXAMINED_BYTES))
    except (OSError, FileError):
        return False


def _counted(other: Counter[str]) -> str:
    """Return how many files there are, and the commonest kinds: `12 files (8 .jpg, 4 .txt)`."""
    total = sum(other.values())
    kinds = sorted(other.items(), key=lambda entry: (-entry[1], entry[0]))
    named = [f"{count} {kind}" for kind, count in kinds[:MAX_SUFFIXES_NAMED]]
    rest = total - sum(count for _, count in kinds[:MAX_SUFFIXES_NAMED])
    named += [f"{rest} others"] if rest else []
    return f"{total} file{'s' if total > 1 else ''} ({', '.join(named)})"


def _plain_path(path: str) -> str:
    """Return `path` with the home of a user in place of `~`, unless there is a file of that name, or no such user."""
    return path if os.path.lexists(path) else with_home(path)


def _bad(label: str, problem: str) -> Input:
    return Input(label, file_address(label), problem)
