"""Attacks that are short enough for every run: the daemon lives, does not grow, and ends in order when it is told to."""

from __future__ import annotations

import random

import pytest

from attacks.catalogue import ATTACKS
from attacks.trial import MAX_GROWTH_MB, try_attack

SHORT = ["requests, then reset", "PINGs behind requests, then reset", "short topics", "garbage and replayed handshakes"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_it_lives(name: str) -> None:
    (attack,) = [attack for attack in ATTACKS if attack.name == name]
    row = try_attack(attack, 2.0, random.Random(0))
    assert row.lives, row.wrong
    assert row.growth_mb is not None
    assert row.growth_mb < MAX_GROWTH_MB
    assert row.end_s is not None, row.wrong
