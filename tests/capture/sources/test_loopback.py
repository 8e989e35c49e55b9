"""The choice of a virtual device on a Mac. tests/device/test_loopback.py captures monitors of a sound server."""

from __future__ import annotations

import pytest

from mertd.capture.sources.loopback import pick_virtual_device
from mertd.errors import SourceError


@pytest.mark.parametrize(
    ("names", "words", "picked"),
    [
        (["MacBook Pro Microphone", "BlackHole 2ch"], "", "BlackHole 2ch"),
        (["Aggregate Device", "Soundflower (2ch)", "BlackHole 16ch"], "", "BlackHole 16ch"),
        (["BlackHole 2ch", "BlackHole 16ch"], "16", "BlackHole 16ch"),
        (["BlackHole 2ch", "Loopback Audio"], "loop", "Loopback Audio"),
    ],
)
def test_the_best_one_is_picked(names: list[str], words: str, picked: str) -> None:
    assert pick_virtual_device(names, words) == picked


@pytest.mark.parametrize(
    ("names", "words", "says"),
    [
        ([], "", "no loopback device; brew install blackhole-2ch"),
        (["MacBook Pro Microphone"], "black", "no loopback device like 'black'; brew install"),
        (["BlackHole 2ch"], "64", "no loopback device like '64'; there are 'BlackHole 2ch'"),
    ],
)
def test_without_a_match_the_error_says_what_to_do(names: list[str], words: str, says: str) -> None:
    with pytest.raises(SourceError, match=says) as refusal:
        pick_virtual_device(names, words)
    assert refusal.value.retry
