"""Pages have no dead link, no long line, no phrase that a stranger trips over, and no command that CI passes by."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import xml.etree.ElementTree
from pathlib import Path
from types import ModuleType

import pytest

from docs.pages import FENCE, PAGES, ROOT, anchors, prose, read

FORBIDDEN = ("whoever", "by someone's hand", "is neither of", ", wanted ", "for want of", "so long", "mad client", "is none")
EXPECTED = {
    *("getting-started", "sources", "receiving", "protocol", "configuration", "commands", "service", "security"),
    *("operations", "memory", "similarity", "view", "metrics", "models", "benchmarks", "macos", "architecture", "glossary"),
    *("bus", "scale"),
}
LONGEST = 120
"""Characters in a line of prose."""

IDS = [str(page.relative_to(ROOT)) for page in PAGES]


def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("readme", ROOT / ".ci" / "readme.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text(encoding="utf-8"))):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_lines_are_short(page: Path) -> None:
    for number, line in enumerate(prose(page.read_text(encoding="utf-8")).splitlines(), 1):
        assert line.startswith("|") or len(line) <= LONGEST, f"{page.name}:{number} has {len(line)} characters"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_no_phrase_that_strangers_trip_over(page: Path) -> None:
    text = " ".join(page.read_text(encoding="utf-8").lower().split())
    assert not [phrase for phrase in FORBIDDEN if phrase in text]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_fences_are_even_and_commands_are_fenced(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    left = FENCE.sub("", text)
    assert "```" not in left
    # An indented block is output or data: a command in one would not be run.
    indented = re.findall(r"(?m)^    (?:\$ )?((?:mertd|uv|pip|bash|python|sudo|apt|brew) .*)$", left)
    assert not indented, f"{page.name}: not run by CI: {indented}"
    assert not re.search(r"^```(bash|shell|console|zsh)", text, re.MULTILINE), "use `sh`"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_command_runs_or_says_why_not(page: Path) -> None:
    runner().blocks(page)  # raises SystemExit


def test_every_block_is_valid_shell() -> None:
    for page in PAGES:
        for _, block in runner().blocks(page):
            done = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True, check=False)
            assert done.returncode == 0, f"{page.name}: {done.stderr}\n{block}"


def test_the_runner_knows_all_pages() -> None:
    assert {*runner().PAGES} == {page for page in PAGES if page.name != "CHANGELOG.md"}


def test_the_readme_is_short_and_shows_two_commands() -> None:
    text = read("README.md")
    assert len(text.splitlines()) <= 150
    assert "pip install uv && uv run mertd demo" in text
    assert "pip install uv && uv run pytest" in text


def test_every_page_is_there_and_linked_from_the_readme() -> None:
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} == EXPECTED
    for name in EXPECTED:
        assert f"(docs/{name}.md" in read("README.md")


def test_pictures_are_small_and_whole() -> None:
    pictures = list((ROOT / "docs" / "pictures").glob("*.svg"))
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < 300_000
        text = picture.read_text(encoding="utf-8")
        xml.etree.ElementTree.fromstring(text)
        assert "url(http" not in text, "a picture fetches nothing"
        assert any(f"pictures/{picture.name})" in page.read_text(encoding="utf-8") for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_files_named_are_there(page: Path) -> None:
    top = "mertd|tests|docs|launchd|systemd|examples|benchmarks|\\.ci|\\.github"
    text = page.read_text(encoding="utf-8")
    named = re.findall(rf"(?<![\w/.~])((?:{top})/[\w./-]*\w)", text)
    assert not [name for name in named if not (ROOT / name).exists() and not name.startswith("mertd/mertd.")]


def test_files_named_in_the_picture_are_there() -> None:
    text = read("docs/pictures/processes.svg")
    named = re.findall(r"\b((?:mertd/)?\w+\.py|mertd/\w+)\b", text)
    assert named
    assert not [name for name in named if not (ROOT / name).exists() and not (ROOT / "mertd" / name).exists()]
