"""A fault that goes on is logged once."""

from __future__ import annotations

import logging

import pytest

from mertd.stream.complaint import Complaint

log = logging.getLogger(__name__)


def test_a_fault_is_said_again_only_after_another_or_after_it_was_over(caplog: pytest.LogCaptureFixture) -> None:
    complaint = Complaint(log, logging.WARNING)
    assert not complaint
    for text, is_news in (("no bus", True), ("no bus", False), ("no\x1b disk", True), ("no bus", True), ("no bus", False)):
        assert complaint.say(text) == is_news
        assert complaint.text == text
        assert complaint
    complaint.over()
    assert not complaint
    complaint.say("no bus")
    assert [record.getMessage() for record in caplog.records] == ["no bus", "no\\x1b disk", "no bus", "no bus"]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
