"""The hosted workflow, the only Mac that everybody has: its images exist, and it runs both kinds of interpreter."""

from __future__ import annotations

import re
from pathlib import Path

WORKFLOW = Path(__file__).parents[2] / ".github" / "workflows" / "ci.yml"

IMAGES = {"macos-15", "macos-26"}
"""Those that runners offer: macos-14 went on 2 November 2026 (actions/runner-images #13518)."""


def test_images_and_interpreters() -> None:
    text = WORKFLOW.read_text()
    assert set(re.findall(r"macos-[\d.]+", text)) == IMAGES
    assert "preference: [only-managed, only-system]" in text
    assert "UV_PYTHON_PREFERENCE: ${{ matrix.preference }}" in text
