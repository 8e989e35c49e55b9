"""Some broken inputs in every run; `mutations.py` tries millions."""

from __future__ import annotations

import pytest
from control import fuzz_control
from mutations import TARGETS, fuzz, peak_bytes

from mertd.capture.address import parse


def runs_of(target: str) -> int:
    return 3000 if TARGETS[target][1] == 1 else 300


@pytest.mark.parametrize("target", TARGETS)
def test_broken_input_meets_its_declared_error(target: str) -> None:
    runs = runs_of(target)
    assert 0 < fuzz(target, runs, 1) < runs, "both outcomes must be seen"


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_a_claim_of_four_billion_entries_allocates_nothing(target: str) -> None:
    assert peak_bytes(target, runs_of(target), 2) < 8 << 20


@pytest.mark.slow
def test_a_daemon_answers_whatever_it_is_asked() -> None:
    assert 0 < fuzz_control(1000, 1) < 1000, "both outcomes must be seen"


def test_a_path_too_long_for_the_system_is_an_address_all_the_same() -> None:
    """Asking whether it is a file raised OSError; to open it is what fails, with the system's own reason."""
    path = "/tmp/" + "a" * 5000 + ".wav"
    assert parse(f"file:{path}?mix=2").target == path
