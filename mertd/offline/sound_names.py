"""Which files of a folder, and which bytes in a pipe, are a sound file: by their suffix, or by how they begin.

Rules of this file: pure functions, no I/O.
"""

from __future__ import annotations

from pathlib import PurePath

from mertd.capture.not_pcm import identify

_WORDS = """
3ga 3gp 8svx aac ac3 adts adx aif aifc aiff amr ape asf ast au avi avr bwf caf dff dsf dts dtshd eac3 flac flv gsm htk iff ircam
m4a m4b m4p m4r m4v mka mkv mlp mov mp1 mp2 mp3 mp4 mpa mpc mpeg mpg nist nut oga ogg ogv ogx oma opus pcm pvf qcp ra raw rf64
rm rso sds sf shn snd sph spx tak thd tta voc w64 wav wave wavex webm wma wsd wv wve
"""

SUFFIXES = frozenset(f".{word}" for word in _WORDS.split())
"""Suffixes in small letters under which sound, or video with sound, is kept."""

NOT_SOUND = frozenset(
    {
        "a gzip file",
        "a playlist, which names streams and is none",
        "a web page",
        "the answer of a web server, with its header",
    }
)
"""What `identify` recognises and is no sound."""


def has_sound_suffix(path: str) -> bool:
    """Whether a file of this name should be sound."""
    return PurePath(path).suffix.lower() in SUFFIXES


def begins_like_sound(head: bytes) -> bool:
    """Whether a file that begins with `head`, up to EXAMINED_BYTES, is a sound file. It has a header, so it is not raw PCM."""
    kind = identify(head)
    return kind != "" and kind not in NOT_SOUND
