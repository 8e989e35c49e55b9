"""What a file is that was taken for weights and is not: told by its first bytes, with what to do instead.

Rules of this file: pure functions of at most `BEGINNING_BYTES` bytes. Nothing is parsed beyond them, and what is shown of a
file is short.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

BEGINNING_BYTES = 4096
"""Bytes of a file by which it is judged."""

SHOWN_LENGTH = 80
"""Characters of a text, title or message from the file that an error shows."""

FETCH = "`mertd model pull` fetches the weights"
"""What to do about a file that holds no weights at all."""

CONVERT = "mertd imports .safetensors and PyTorch's .bin or .pt; take the model in one of these"
"""What to do about weights in a format that mertd does not read."""

DOWNLOAD = "download it again"
"""What to do about a file that is not what its server has."""


@dataclass(frozen=True)
class _Kind:
    """A format that begins with `magic`, at byte `offset`. `name` completes "it is …"."""

    magic: bytes
    name: str
    advice: str
    offset: int = 0


_KINDS = (
    _Kind(b"GGUF", "a GGUF file, the format of llama.cpp", CONVERT),
    *(_Kind(magic, "a GGML file, the old format of llama.cpp", CONVERT) for magic in (b"lmgg", b"fmgg", b"tjgg", b"algg")),
    _Kind(b"TFL3", "a TensorFlow Lite model", CONVERT, 4),
    _Kind(b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras and TensorFlow write it", CONVERT),
    _Kind(b"\x93NUMPY", "a numpy array", CONVERT),
    _Kind(b"\x1f\x8b", "compressed with gzip", "unpack it first, with gunzip"),
    _Kind(b"BZh", "compressed with bzip2", "unpack it first, with bunzip2"),
    _Kind(b"\xfd7zXZ\x00", "compressed with xz", "unpack it first, with unxz"),
    _Kind(b"\x28\xb5\x2f\xfd", "compressed with Zstandard", "unpack it first, with unzstd"),
    _Kind(b"\x04\x22\x4d\x18", "compressed with LZ4", "unpack it first, with unlz4"),
    _Kind(b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it first, and import the file of weights in it"),
    _Kind(b"Rar!\x1a\x07", "a RAR archive", "unpack it first, and import the file of weights in it"),
    _Kind(b"ustar", "a tar archive", "unpack it first, and import the file of weights in it", 257),
    _Kind(b"PK\x05\x06", "an empty zip archive", DOWNLOAD),
    _Kind(b"RIFF", "a sound file", FETCH),
    _Kind(b"fLaC", "a sound file", FETCH),
    _Kind(b"OggS", "a sound file", FETCH),
    _Kind(b"ID3", "a sound file", FETCH),
    _Kind(b"%PDF-", "a PDF document", FETCH),
    _Kind(b"\x89PNG\r\n\x1a\n", "a picture", FETCH),
    _Kind(b"\xff\xd8\xff", "a picture", FETCH),
    _Kind(b"\x7fELF", "a program", FETCH),
)
"""Formats that are told by a magic number."""

_ONNX_FIELDS = (0x12, 0x1A, 0x22, 0x2A, 0x3A, 0x42)
"""Tags of the field that follows the version in an ONNX model: names of the producer, domain, text, graph, operators."""

_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
"""Marks of a byte order that a text may begin with."""


def describe(beginning: bytes, size: int) -> str | None:
    """Return what a file of `size` bytes with this beginning is and what to do, to complete "it is …"; None if unknown."""
    beginning = beginning[:BEGINNING_BYTES]
    if not size:
        return f"empty; {DOWNLOAD}"
    for kind in _KINDS:
        if beginning[kind.offset :].startswith(kind.magic):
            return f"{kind.name}; {kind.advice}"
    if beginning.startswith(b"PK\x03\x04"):
        return "a zip archive, as PyTorch writes it; `mertd model import` converts a checkpoint"
    if not beginning.strip(b"\0"):
        return f"zeros at its beginning, {len(beginning):,} of them: its download was prepared and not finished; {DOWNLOAD}"
    if named := _protocol_buffer(beginning) or _pickle(beginning):
        return f"{named}; {CONVERT}"
    text = _text(beginning, cut=size > len(beginning))
    return None if text is None else _describe_text(text, size)


def _protocol_buffer(beginning: bytes) -> str | None:
    """ONNX and Core ML both begin with field 1, a small version number; ONNX then has the name of its producer, in letters."""
    if len(beginning) < 4 or beginning[0] != 0x08 or not 1 <= beginning[1] <= 15 or beginning[2] not in _ONNX_FIELDS:
        return None
    producer = beginning[4 : 4 + beginning[3]]
    if beginning[2] == 0x12 and not (producer and producer.isascii() and producer.decode("ascii").isprintable()):
        return "a Core ML model"
    return "an ONNX model"


def _pickle(beginning: bytes) -> str | None:
    if beginning[:1] == b"\x80" and beginning[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a Python pickle, not a checkpoint that torch.save wrote"
    if 0x81 <= beginning[0] <= 0x8F and len(beginning) > 1 and (0xA1 <= beginning[1] <= 0xBF or beginning[1] == 0xD9):
        return "a MessagePack map, as Flax writes it"
    return None


def _text(beginning: bytes, cut: bool) -> str | None:
    """Return the beginning of a file as text, or None if it is not text."""
    mark = next((mark for mark in _BOMS if beginning.startswith(mark)), b"")
    encoding = "utf-8" if mark in (b"", _BOMS[0]) else "utf-16"
    content = beginning if encoding == "utf-16" else beginning.removeprefix(mark)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if not cut or len(content) - error.start > 3:  # the last character may be cut in two
            return None
        text = content[: error.start].decode(encoding)
    return None if any(ord(letter) < 32 and letter not in "\t\n\r\f" for letter in text) else text.strip()


def _describe_text(text: str, size: int) -> str:
    lower = text.lower()
    if lower.startswith("version https://git-lfs"):
        whole = re.search(r"^size (\d{1,15})$", text, re.MULTILINE)
        of = f" in place of {int(whole[1]):,} bytes of weights" if whole else ""
        return f"a pointer of Git LFS{of}; run `git lfs pull` in its repository, or {FETCH}"
    if lower.startswith("# xet version"):
        return f"a pointer of Git Xet; run `git lfs pull` in its repository, or {FETCH}"
    if "annex/objects/" in lower[:200]:
        return f"a pointer of git-annex; run `git annex get` in its repository, or {FETCH}"
    if lower.startswith(("<!doctype html", "<html")) or re.search(r"<(html|head|body)[\s>]", lower[:1_000]):
        return (
            f"a web page{_quoted(re.search('<title[^>]*>([^<]*)<', text, re.IGNORECASE))}, not the file behind it; {DOWNLOAD}"
        )
    if lower.startswith("<"):
        return f"a server's answer in XML{_quoted(re.search('<(?:Code|Message)>([^<]*)<', text))}; {DOWNLOAD}"
    if text.startswith(("{", "[")):
        if '"error"' in text or '"detail"' in text:
            return f"a server's error message, {_short(' '.join(text.split()))!r}; {DOWNLOAD}"
        if '"weight_map"' in text:
            return "an index of shards; `mertd model import` puts them together"
        if '"model_type"' in text or '"architectures"' in text:
            return "the configuration of a model, not its weights; import the file of weights beside it"
        return f"JSON, not weights; {FETCH}"
    return f"a text of {size:,} bytes that begins {_short(text)!r}; {FETCH}"


def _quoted(found: re.Match[str] | None) -> str:
    return f" ({_short(found[1])!r})" if found and found[1].strip() else ""


def _short(text: str) -> str:
    line = " ".join(text.strip().partition("\n")[0].split())
    return line if len(line) <= SHOWN_LENGTH else f"{line[:SHOWN_LENGTH]}…"
