"""Sound files that are broken, each in a way of its own, and names that are as bad."""

from __future__ import annotations

import gzip
import io
import os
import random
import struct
import zipfile
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 8_000
SECONDS = 1.3


def tone(number: int, seconds: float = SECONDS) -> NDArray[np.int16]:
    """No two numbers give the same sound."""
    t = np.arange(round(seconds * RATE)) / RATE
    return np.asarray(9_000 * np.sin(2 * np.pi * (120 + number % 997) * t + number), np.int16)


def encoded(kind: str, samples: NDArray[np.generic] | None = None, subtype: str | None = None) -> bytes:
    """A whole file."""
    file = io.BytesIO()
    soundfile.write(file, tone(1) if samples is None else samples, RATE, format=kind, subtype=subtype)
    return file.getvalue()


def wav(fmt: bytes, data: bytes = bytes(16_000)) -> bytes:
    """A WAV file with this format chunk."""
    chunks = b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks


def pcm(tag: int = 1, channels: int = 1, rate: int = RATE, bits: int = 16) -> bytes:
    frame = channels * bits // 8
    return struct.pack("<HHIIHH", tag, channels, rate, rate * frame % (1 << 32), frame % (1 << 16), bits)


def damaged(data: bytes, seed: int) -> bytes:
    """The middle third is noise."""
    third = len(data) // 3
    return data[:third] + random.Random(seed).randbytes(third) + data[2 * third :]


def zipped(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, "x" * 500)
    return file.getvalue()


def not_finite(value: float) -> bytes:
    samples = tone(2).astype(np.float32) / 32_768
    samples[len(samples) // 2] = value
    return encoded("WAV", samples, "FLOAT")


def contents() -> dict[str, bytes]:
    """Names, whose suffix says what the file should be, and what is in it."""
    whole = {kind: encoded(kind) for kind in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "CAF", "W64", "AU")}
    noise = random.Random(0)
    return {
        "empty.wav": b"",
        "empty.mp3": b"",
        "zeros.flac": bytes(5_000),
        "text.wav": b"no song\n",
        "page.mp3": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "lfs.flac": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n",
        "picture.wav": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + noise.randbytes(4_000),
        "picture.mp3": b"\x89PNG\r\n\x1a\n" + noise.randbytes(4_000),
        "archive.flac": zipped("x.flac"),
        "gzip.ogg": gzip.compress(whole["OGG"], mtime=0),
        "program.ogg": b"\x7fELF\x02\x01\x01" + noise.randbytes(3_000),
        "noise.wav": noise.randbytes(20_000),
        "noise.flac": noise.randbytes(20_000),
        "noise.m4a": noise.randbytes(20_000),
        "noise.opus": noise.randbytes(20_000),
        "mark.wav": b"RIFF",
        "mark.flac": b"fLaC",
        "mark.ogg": b"OggS",
        "mark.mp3": b"ID3\x04\x00\x00\x00\x00\x00\x00",
        "mark.aiff": b"FORM\x00\x00\x00\x04AIFF",
        "mark.caf": b"caff\x00\x01\x00\x00",
        "mark.m4a": b"\x00\x00\x00\x18ftypM4A \x00\x00\x00\x00M4A mp42isom",
        "mark.webm": b"\x1aE\xdf\xa3",
        "mark.wma": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c",
        "head.wav": whole["WAV"][:30],
        "head.flac": whole["FLAC"][:30],
        "head.ogg": whole["OGG"][:60],
        "head.aiff": whole["AIFF"][:40],
        "head.au": whole["AU"][:20],
        "head.w64": whole["W64"][:50],
        "head.caf": whole["CAF"][:40],
        "short.wav": encoded("WAV", tone(3, 0.4)),
        "short.flac": encoded("FLAC", tone(4, 0.9)),
        "one-sample.wav": encoded("WAV", tone(5, 1 / RATE)),
        "cut.wav": whole["WAV"][:-3_000],
        "cut.flac": whole["FLAC"][:-300],
        "cut.aiff": whole["AIFF"][:-3_000],
        "damaged.flac": damaged(whole["FLAC"], 1),
        "damaged.ogg": damaged(whole["OGG"], 2),
        "nan.wav": not_finite(float("nan")),
        "infinite.wav": not_finite(float("inf")),
        "no-channels.wav": wav(pcm(channels=0)),
        "many-channels.wav": wav(pcm(channels=40_000)),
        "no-rate.wav": wav(pcm(rate=0)),
        "huge-rate.wav": wav(pcm(rate=4_000_000_000)),
        "no-bits.wav": wav(pcm(bits=0)),
        "odd-codec.wav": wav(pcm(tag=0x7777)),
        "headerless.raw": tone(6).tobytes(),
    }


def bad_names(folder: Path) -> list[str]:
    """Make files whose names are bad and whose content is, too, and links that lead nowhere; return the names."""
    (folder / "dangling.wav").symlink_to("/nowhere/at-all.wav")
    (folder / "circle.wav").symlink_to("circle.wav")
    names = ["~nobody-of-this-name.wav", "file:gone?.wav", "-x.wav", "line\nbreak.wav", "\x1b[31mred.wav", "caf\udce9.flac"]
    for name in names:
        (folder / name).write_bytes(b"no song, " + os.fsencode(name))
    return ["dangling.wav", "circle.wav", *names]


def make_broken(folder: Path) -> list[str]:
    """Make all of them in `folder`; return their names."""
    found = contents()
    for name, content in found.items():
        (folder / name).write_bytes(content)
    return [*found, *bad_names(folder)]


def make_whole(path: Path, number: int) -> None:
    """Make a good file of two windows of a second each."""
    kind = ("WAV", "FLAC", "AIFF")[number % 3]
    path.write_bytes(encoded(kind, tone(number)))
