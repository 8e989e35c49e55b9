"""Answers are computed once, one after the other, and never without bound."""

from __future__ import annotations

import asyncio
import threading

import pytest

from mertd.errors import StoreError
from mertd.view.answers import KEPT_S, MAX_KEPT, MAX_WAITING, Answers, BusyError


def test_the_same_question_is_computed_once() -> None:
    now_s, asked = [0.0], []

    async def run() -> None:
        answers = Answers("test", lambda: now_s[0])
        found = await asyncio.gather(*(answers.get("a", lambda: asked.append(1) or {"b": 1}) for _ in range(100)))
        assert {*found} == {b'{"b":1}'}
        assert len(asked) == 1
        now_s[0] += KEPT_S + 1
        await answers.get("a", lambda: asked.append(1))
        assert len(asked) == 2

    asyncio.run(run())


def test_an_error_is_told_and_not_kept() -> None:
    async def run() -> None:
        answers = Answers("test")

        def fail() -> None:
            raise StoreError("the disk is gone")

        for _ in range(2):
            with pytest.raises(StoreError, match="the disk is gone"):
                await answers.get("a", fail)
        assert await answers.get("a", lambda: 1) == b"1"

    asyncio.run(run())


def test_who_leaves_does_not_take_the_answer_from_others() -> None:
    async def run() -> None:
        answers, may_go_on = Answers("test"), threading.Event()
        leaving = asyncio.create_task(answers.get("a", may_go_on.wait))
        staying = asyncio.create_task(answers.get("a", may_go_on.wait))
        await asyncio.sleep(0)
        leaving.cancel()
        may_go_on.set()
        assert await staying == b"true"

    asyncio.run(run())


def test_too_many_questions_are_refused() -> None:
    async def run() -> None:
        answers, may_go_on = Answers("test"), threading.Event()
        tasks = [asyncio.create_task(answers.get(number, may_go_on.wait)) for number in range(MAX_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="try again"):
            await answers.get("one more", may_go_on.wait)
        may_go_on.set()
        await asyncio.gather(*tasks)
        for number in range(2 * MAX_KEPT):
            await answers.get(("later", number), lambda: 1)
        assert len(answers._known) <= MAX_KEPT + 1

    asyncio.run(run())
