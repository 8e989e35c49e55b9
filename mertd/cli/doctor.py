"""`mertd doctor`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from mertd.cli.output import say, say_json, say_labelled, show_progress
from mertd.cli.settings import given
from mertd.config import Given
from mertd.doctor.facts import Finding
from mertd.doctor.findings import findings, is_problem
from mertd.doctor.gather import gather
from mertd.errors import UsageError

MARKS = {"ok": "ok      ", "warning": "warning ", "problem": "PROBLEM "}
COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


def doctor(config: Path | None, quick: bool, json: bool) -> int:
    """Print all findings; the exit code is 3 if one is a problem, otherwise 0."""
    try:
        told = given(config, {})
        unread = ""
    except UsageError as error:
        told, unread = Given({}, {}, None), str(error)
    facts = gather(told, quick, lambda text: show_progress(f"looking at {text} …"))
    found = findings(facts)
    if unread:
        found.insert(0, Finding("configuration", "problem", unread, "`mertd run` refuses to start", "mertd config check"))
    if json:
        say_json({"findings": [asdict(finding) for finding in found], "problem": is_problem(found)})
        return 3 if is_problem(found) else 0
    for finding in found:
        say_labelled(MARKS[finding.level], COLOURS[finding.level], f"{finding.check:14}{finding.text}")
        if finding.why:
            say(f"{'':22}{finding.why}")
        if finding.fix:
            say(f"{'':22}> {finding.fix}")
    counts = {level: sum(finding.level == level for finding in found) for level in MARKS}
    say(f"{counts['problem']} problems, {counts['warning']} warnings, {counts['ok']} things in order")
    return 3 if is_problem(found) else 0
