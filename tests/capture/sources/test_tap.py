"""Taps with a stand-in for catap, which exists on macOS only: its calls and types are those of catap 0.6."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from capture.from_url import settings_for
from mertd.capture.sources.tap import open_source
from mertd.errors import SourceError

RATE = 48_000
FLOAT = SimpleNamespace(sample_rate=float(RATE), num_channels=2, bits_per_sample=32, is_float=True)


class Session:
    """A recording session of catap."""

    def __init__(self, on_buffer: Callable[[Any], None], form: Any, fault: Exception | None) -> None:
        self._on_buffer = on_buffer
        self.stream_format = form
        self._fault = fault
        self.capture_failed = self.closed = False

    def start(self) -> None:
        if self._fault:
            raise self._fault

    def give(self, frames: int, value: float) -> None:
        data = np.full((frames, 2), value, np.float32).tobytes()
        self._on_buffer(SimpleNamespace(data=data, frame_count=frames, format=self.stream_format))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def catap(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return the stand-in; `sessions` has those opened, by what they record."""
    module = SimpleNamespace(sessions={}, form=FLOAT, fault=None)

    def record(what: str, on_buffer: Callable[[Any], None]) -> Session:
        module.sessions[what] = Session(on_buffer, module.form, module.fault)
        return module.sessions[what]  # type: ignore[no-any-return]

    module.record_process = lambda name, *, on_buffer: record(name, on_buffer)
    module.record_system_audio = lambda *, on_buffer: record("", on_buffer)
    monkeypatch.setitem(sys.modules, "catap", module)
    return module


@pytest.mark.parametrize(("url", "what"), [("tap:", ""), ("tap:Safari", "Safari")])
def test_what_is_tapped_comes_as_blocks(catap: SimpleNamespace, url: str, what: str) -> None:
    source = open_source(settings_for(url))
    assert (source.rate, source.channels) == (RATE, 2)
    assert (what or "all programs") in source.description
    blocks = source.blocks()
    assert next(blocks) is None, "nothing plays"
    session = catap.sessions[what]
    session.give(480, 0.25)
    session.give(480, 0.5)
    block = next(blocks)
    assert block is not None
    assert block.frames.shape == (960, 2)
    assert (block.frames[0, 0], block.frames[-1, 1]) == (0.25, 0.5)
    assert block.captured_at is not None
    session.capture_failed = True
    with pytest.raises(SourceError, match="has failed") as fault:
        next(blocks)
    assert fault.value.retry
    source.close()
    assert session.closed


def test_a_program_that_does_not_run_is_retried(catap: SimpleNamespace) -> None:
    catap.fault = LookupError("no process 'Safari'")
    with pytest.raises(SourceError, match=r"tap of Safari: .*no process") as fault:
        open_source(settings_for("tap:Safari"))
    assert fault.value.retry


def test_another_format_is_refused_and_the_tap_removed(catap: SimpleNamespace) -> None:
    catap.form = SimpleNamespace(**{**vars(FLOAT), "is_float": False})
    with pytest.raises(SourceError, match="expected 32 bit floating point"):
        open_source(settings_for("tap:"))
    assert catap.sessions[""].closed


def test_without_catap_the_error_says_how_to_install_it() -> None:
    with pytest.raises(SourceError, match=r"pip install 'mertd\[tap\]'"):
        open_source(settings_for("tap:"))
