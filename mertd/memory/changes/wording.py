"""Changes as maps: the detail of an event, and what `mertd changes --json` prints. Both use the same keys."""

from __future__ import annotations

from typing import Any

from mertd.memory.changes.programme import ProgrammeSection
from mertd.memory.changes.stream_reading import StreamKey
from mertd.memory.changes.stream_window import Change, SectionSpan


def event_detail(change: Change, space: str) -> dict[str, Any]:
    """Return what an event says of a change, beside its time and index."""
    detail = {**_measured(change), "space": space}
    if change.like is not None:
        detail["similarity"] = detail.pop("strength")
        detail["like"] = _span(change.like)
    return detail


def section_map(section: ProgrammeSection, key: StreamKey) -> dict[str, Any]:
    """Return a section as a map."""
    change, returned = section.change, section.returned
    found: dict[str, Any] = {
        "daemon": key.daemon,
        "stream": key.stream,
        "space": key.space,
        "start_ns": section.start_ns,
        "end_ns": section.end_ns,
        "goes_on": section.goes_on,
        "begins": section.begins.value,
    }
    if change is not None:
        found |= {
            "boot": change.boot.hex(),
            "epoch": change.epoch,
            "index": change.index,
            **_measured(change),
        }
    if returned is not None and returned.like is not None:
        found |= {"similarity": returned.strength, "like": _span(returned.like)}
    return found


def _measured(change: Change) -> dict[str, Any]:
    return {
        "bound_ns": change.bound_ns,
        "strength": change.strength,
        "delay_ns": change.detected_ns - change.time_ns,
        "seq": change.seq,
    }


def _span(span: SectionSpan) -> dict[str, Any]:
    return {
        "boot": span.boot.hex(),
        "first": span.first_seq,
        "last": span.last_seq,
        "start_ns": span.start_ns,
        "end_ns": span.end_ns,
    }
