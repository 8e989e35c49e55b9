"""Where the user's files are, and what is said where nobody knows. No passwd entry at all: see cli/test_conditions.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from mertd.memory.default_folder import chosen_folder, default_memory
from mertd.user_folders import cache_folder, config_folder, data_folder, expand_home, home, log_folder


def test_below_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home() == tmp_path
    for folder in (config_folder(), data_folder(), log_folder(), cache_folder()):
        assert folder.is_relative_to(tmp_path)
        assert "mertd" in folder.parts


def test_a_tilde_of_an_unknown_user_stays() -> None:
    assert expand_home("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
    assert expand_home("~/x") == home() / "x"
    assert chosen_folder("~/x") == home() / "x"
    assert chosen_folder(None) == default_memory()
