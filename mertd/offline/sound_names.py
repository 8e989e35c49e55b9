"""Which files of a folder, and which bytes in a pipe, are a sound file: by their suffix, or by how they begin.

Rules of this file: pure functions, no I/O.
"""

from __future__ import annotations

from pathlib import PurePath

from mertd.capture.sound_files.mpeg_frame import frame_bytes

_WORDS = """
3ga 3gp 8svx aac ac3 adts adx aif aifc aiff amr ape asf ast au avi avr bwf caf dff dsf dts dtshd eac3 flac flv gsm htk iff ircam
m4a m4b m4p m4r m4v mka mkv mlp mov mp1 mp2 mp3 mp4 mpa mpc mpeg mpg nist nut oga ogg ogv ogx oma opus pcm pvf qcp ra raw rf64
rm rso sds sf shn snd sph spx tak thd tta voc w64 wav wave wavex webm wma wsd wv wve
"""

SUFFIXES = frozenset(f".{word}" for word in _WORDS.split())
"""Suffixes in small letters under which sound, or video with sound, is kept."""

HEAD_BYTES = 4096
"""Bytes that are enough to recognise a sound file: the longest frame of MPEG audio, and the header of the next one."""

MARKS = (
    *(b"OggS", b"fLaC", b"ID3", b"RF64", b"RIFX", b"BW64", b"caff", b".snd", b"wvpk", b"TTA1", b"tBaK", b"MAC ", b"MPCK"),
    *(b"#!AMR", b"DSD ", b"Creative Voice File", b"ajkg", b"NIST_1A"),
    *(b"\x1aE\xdf\xa3", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", b"riff\x2e\x91\xcf\x11"),
)
"""First bytes of sound files (the last three: Matroska, ASF and W64)."""


def has_sound_suffix(path: str) -> bool:
    """Whether a file of this name should be sound."""
    return PurePath(path).suffix.lower() in SUFFIXES


def begins_like_sound(head: bytes) -> bool:
    """Whether a file that begins with `head` is a sound file. It has a header, so it is not raw PCM."""
    if head.startswith(MARKS) or head[4:8] == b"ftyp":
        return True
    if head[:4] in (b"RIFF", b"FORM"):
        return head[8:12] in (b"WAVE", b"AVI ", b"AIFF", b"AIFC", b"8SVX")
    length = frame_bytes(head) or _adts_bytes(head)
    following = head[length : length + 4]  # samples of raw PCM may look like one header, but hardly like two of the same kind
    return bool(length) and len(following) == 4 and following[:2] == head[:2]


def _adts_bytes(head: bytes) -> int:
    """Return the length of the frame of AAC with which `head` begins; 0 if it is none."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return 0
    return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
