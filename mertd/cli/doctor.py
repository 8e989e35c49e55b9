"""`mertd doctor`."""

from __future__ import annotations

import json as jsonlib
import sys
from dataclasses import asdict
from pathlib import Path

from mertd.cli.settings import given
from mertd.config import Given
from mertd.doctor.facts import Finding
from mertd.doctor.findings import findings, is_problem
from mertd.doctor.gather import gather
from mertd.errors import UsageError

MARKS = {"ok": "ok      ", "warning": "warning ", "problem": "PROBLEM "}
COLOURS = {"ok": "32", "warning": "33", "problem": "31"}


def doctor(config: Path | None, quick: bool, json: bool) -> int:
    """Print all findings; the exit code is 3 if one is a problem, otherwise 0."""
    try:
        told = given(config, {})
        unread = ""
    except UsageError as error:
        told, unread = Given({}, {}, None), str(error)
    coloured = sys.stdout.isatty()
    facts = gather(told, quick, _progress if sys.stderr.isatty() else lambda _: None)
    found = findings(facts)
    if unread:
        found.insert(0, Finding("configuration", "problem", unread, "`mertd run` refuses to start", "mertd config check"))
    if json:
        print(jsonlib.dumps({"findings": [asdict(finding) for finding in found], "problem": is_problem(found)}))
        return 3 if is_problem(found) else 0
    for finding in found:
        mark = MARKS[finding.level]
        print(f"\x1b[{COLOURS[finding.level]}m{mark}\x1b[0m" if coloured else mark, f"{finding.check:14}", finding.text, sep="")
        if finding.why:
            print(f"{'':22}{finding.why}")
        if finding.fix:
            print(f"{'':22}> {finding.fix}")
    counts = {level: sum(finding.level == level for finding in found) for level in MARKS}
    print(f"{counts['problem']} problems, {counts['warning']} warnings, {counts['ok']} things in order")
    return 3 if is_problem(found) else 0


def _progress(text: str) -> None:
    print(f"\r\x1b[Klooking at {text} …", end="\r", file=sys.stderr, flush=True)
