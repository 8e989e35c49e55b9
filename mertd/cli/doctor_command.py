"""`mertd doctor`: what is wrong on this machine, and how to mend it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from mertd.cli.lazy_group import single_command
from mertd.cli.options import Config, Json
from mertd.cli.output import say, say_json, say_labelled, show_progress
from mertd.cli.read_settings import raw_daemon_settings
from mertd.errors import UsageError

LABELS = {"ok": "ok      ", "warning": "warning ", "problem": "PROBLEM "}
"""What the line of a finding begins with, by level."""

COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}
"""Colours of the labels."""

INDENT = " " * 22
"""Before why a finding matters and how to mend it: below its text."""

commands = single_command()


@commands.command()
def doctor(
    config: Config = None,
    quick: Annotated[bool, typer.Option("--quick", help="Do not listen to devices or try the model.")] = False,
    json: Json = False,
) -> None:
    """Find what is wrong, why it matters and how to mend it. Exits with 3 if something keeps mertd from its work."""
    from mertd.config import RawSettings
    from mertd.doctor.facts import Finding
    from mertd.doctor.findings import findings, is_problem
    from mertd.doctor.gather import gather

    unread = ""
    try:
        raw = raw_daemon_settings(config, {})
    except UsageError as error:
        raw, unread = RawSettings({}, {}, None), str(error)
    facts = gather(raw, quick, lambda text: show_progress(f"looking at {text} …"))
    found = findings(facts)
    if unread:
        found.insert(0, Finding("configuration", "problem", unread, "`mertd run` refuses to start", "mertd config check"))
    if json:
        say_json({"findings": [asdict(finding) for finding in found], "problem": is_problem(found)})
        raise typer.Exit(3 if is_problem(found) else 0)
    for finding in found:
        say_labelled(LABELS[finding.level], COLOURS[finding.level], f"{finding.check:14}{finding.text}")
        if finding.why:
            say(f"{INDENT}{finding.why}")
        if finding.fix:
            say(f"{INDENT}> {finding.fix}")
    counts = {level: sum(finding.level == level for finding in found) for level in LABELS}
    say(f"{counts['problem']} problems, {counts['warning']} warnings, {counts['ok']} things in order")
    raise typer.Exit(3 if is_problem(found) else 0)
