"""The page in a real browser, on real daemons: Debian's Chromium, driven by Playwright.

    PYTHONPATH=tests uv run --group browser python tests/view/browser.py

It is live, quick, at hand for everyone, and safe; every check prints what it has measured. Exits with 1 if one fails.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import re
import signal
import statistics
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from socket import gethostname
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from command_process import PATIENCE_S
from mertd.stream.client.subscriber import Subscriber
from mertd.wire import Embedding
from view.browser_stage import (
    HOSTILE,
    MODEL_OPTIONS,
    Stage,
    chromium,
    hostile_daemon,
    hostile_words,
    launched,
    remember_a_day,
    stage,
    until,
)

LIVE_MS = 2_000
"""Milliseconds from publication until the page shows a vector, at most."""

DRAWN_MS = 2_000
"""Milliseconds from opening the page until a day of memory is drawn, at most."""

PAGE_BYTES = 300_000
"""Bytes of the page, its style and scripts, without plotly's bundle."""

DAY_WINDOWS = 17_280
WATCHED = 8
LOADS = 3
TABS = 8
REFRESHES = 10
MAX_GROWTH = 1.25
WAIT_MS = 1_000 * PATIENCE_S
REBOUND = "rebound.example"
RULES = f"MAP {REBOUND} 127.0.0.1, MAP {gethostname()} 127.0.0.1"

WATCH = """() => {
  window.seen = [];
  const look = () => {
    const found = /Window (\\d+):/.exec(document.querySelector("article[data-stream=room]")?.textContent ?? "");
    if (found && seen.at(-1)?.[0] !== Number(found[1])) seen.push([Number(found[1]), Date.now()]);
  };
  const all = { childList: true, subtree: true, characterData: true };
  new MutationObserver(look).observe(document.getElementById("streams"), all);
}"""
"""Note in the page when each window of the room is first shown."""

TICKS = """async ([since, until, most]) => {
  const { ticks } = await import("./charts.js");
  return ticks(since, until, most);
}"""
"""The labels of an axis."""

REFRESH = """async (times) => {
  for (let done = 0; done < times; done += 1) {
    performance.clearMarks();
    document.getElementById("now").click();
    while (!performance.getEntriesByName("evening-drawn").length) await new Promise((resolve) => setTimeout(resolve, 20));
  }
}"""
"""Let the page ask for its span, and draw it, so many times."""

OVERTAKEN = """async () => {
  const { Evening } = await import("./evening.js");
  const made = new Evening(() => {});
  await made.start();
  const facts = { key: made.key, daemon: "studio", stream: "room", trained: false, ms: Date.now(), novelty: 0.5 };
  const asked = made.load();
  made.window(facts);
  await asked;
  return made.data.line.ms.at(-1) === facts.ms;
}"""
"""Let a window come while a span is asked for."""

HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
"""Let the page believe that its tab is in the background, or not."""

TRIED = """async (url) => {
  const results = {};
  const attempt = async (name, action) => {
    try { results[name] = await action(); } catch { results[name] = "failed"; }
  };
  const loaded = (name, facts, on) => new Promise((done) => {
    const made = Object.assign(document.createElement(name), facts);
    made.onload = () => done(on);
    made.onerror = () => done("failed");
    document.body.append(made);
  });
  await attempt("read", async () => (await fetch(url + "remembered")).text());
  await attempt("post", async () => (await fetch(url, { method: "POST", mode: "no-cors", body: "x" })).type);
  await attempt("put", async () => (await fetch(url, { method: "PUT" })).status);
  await attempt("script", () => loaded("script", { src: url + "page.js" }, "loaded"));
  await attempt("frame", () => loaded("iframe", { src: url }, "something"));
  await attempt("events", () => new Promise((done) => {
    const made = new EventSource(url + "live");
    made.onopen = () => done("open");
    made.onerror = () => { made.close(); done("failed"); };
  }));
  return results;
}"""
"""What a page of another origin may try."""


@dataclass
class Visit:
    """One page, and all that the browser said of it."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    bytes: dict[str, int] = field(default_factory=dict)

    def check(self) -> None:
        """Fail if the page asked another host for anything, or the console has an error."""
        assert not self.foreign, f"asked elsewhere: {self.foreign}"
        assert not self.complaints, self.complaints


@contextmanager
def visit(browser: Browser, url: str, base: str = "", **options: Any) -> Iterator[Visit]:
    """Open the page. `base`: where everything is, if `url` is more. `options`: of the browser's window."""
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 1000}, "locale": "en-GB"} | options))
    made = Visit(context.new_page(), base or url)
    page = made.page
    page.set_default_timeout(WAIT_MS)
    page.on("console", lambda said: made.complaints.append(f"{said.text} {said.location}") if said.type == "error" else None)
    page.on("pageerror", lambda error: made.complaints.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith((made.url, "data:")) else made.foreign.append(asked.url))
    page.on("response", lambda answer: _count(made, answer))
    page.goto(url)
    yield made
    context.close()


def _count(made: Visit, answer: Any) -> None:
    path = answer.url.removeprefix(made.url)
    if re.fullmatch(r"|[\w.-]+\.(js|css|svg)", path) and "plotly" not in path:
        made.bytes[path] = int(answer.headers.get("content-length", 0))


def drawn(page: Page) -> float:
    """Wait until the page has drawn a span; return the milliseconds from its opening."""
    page.wait_for_selector("body[data-drawn]")
    return float(page.evaluate("() => performance.getEntriesByName('evening-drawn')[0].startTime"))


def room(page: Page) -> Any:
    return page.locator("article[data-stream=room]")


@dataclass
class Run:
    """What the checks share."""

    stage: Stage
    browser: Browser
    view: subprocess.Popen[str]
    url: str
    tolerance: float

    def vectors_appear_at_once(self) -> str:
        with visit(self.browser, self.url) as made, Subscriber(self.stage.publish) as subscriber:
            expect(room(made.page)).to_contain_text("Listening", timeout=WAIT_MS)
            made.page.evaluate(WATCH)
            published: dict[int, float] = {}
            while len(published) < WATCHED:
                received = subscriber.receive(PATIENCE_S)
                assert received is not None
                if isinstance(received.message, Embedding):
                    published[received.message.seq] = time.time() * 1000
            last = max(published)
            expect(room(made.page)).to_contain_text(re.compile(rf"Window ({last}|{last + 1}|{last + 2}):"), timeout=LIVE_MS)
            seen = dict(made.page.evaluate("() => seen"))
            delays = [seen[seq] - ms for seq, ms in published.items() if seq in seen]
            assert len(delays) >= WATCHED - 2, f"only {len(delays)} of {WATCHED} windows were shown"
            assert max(delays) < LIVE_MS, delays
            expect(made.page.locator("#untrained")).to_be_visible()
            assert "UNTRAINED" in made.page.title()
            made.check()
            return f"{statistics.median(delays):.0f} ms after publication, {max(delays):.0f} at most"

    def a_day_is_drawn(self) -> str:
        """Each time by a browser that has just been started, the first time by such a server, too."""
        times = []
        for _ in range(LOADS):
            with launched(self.browser.browser_type) as browser, visit(browser, self.url) as made:
                times.append(drawn(made.page))
                windows = int(made.page.get_attribute("body", "data-drawn") or 0)
                assert DAY_WINDOWS - 100 < windows <= DAY_WINDOWS, windows
                for chart in ("line", "square", "path"):
                    assert made.page.locator(f"#{chart} svg.main-svg").count() > 0
                total = sum(made.bytes.values())
                made.check()
        assert 20_000 < total < PAGE_BYTES, made.bytes
        assert max(times) < DRAWN_MS * self.tolerance, times
        return f"{', '.join(f'{one:.0f}' for one in times)} ms; the page has {total:,} bytes without the charts' code"

    def everyone_can_use_it(self) -> str:
        serious, minor = [], []
        ways: list[dict[str, Any]] = [
            {"color_scheme": "light"},
            {"color_scheme": "dark"},
            {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
        ]
        for way in ways:
            with visit(self.browser, self.url, **way) as made:
                drawn(made.page)
                made.page.locator("#similar button").first.wait_for()
                for details in made.page.locator("summary").all():
                    details.click()
                for found in Axe().run(made.page).response["violations"]:
                    (serious if found["impact"] in ("serious", "critical") else minor).append(
                        f"{found['id']}: {found['help']}: {[node['html'][:120] for node in found['nodes'][:3]]}"
                    )
                width = made.page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
                assert width[0] <= width[1], f"the page is wider than the screen: {width}"
                made.check()
        assert not serious, "\n".join(serious)
        return f"axe: nothing serious, {len(minor)} minor in light, dark and on a phone {minor}"

    def the_keyboard_is_enough(self) -> str:
        with visit(self.browser, self.url) as made:
            page = made.page
            drawn(page)
            page.locator("#similar button").first.wait_for()
            reached = []
            for _ in range(60):
                page.keyboard.press("Tab")
                reached.append(page.evaluate("() => document.activeElement.id || document.activeElement.closest('[id]')?.id"))
                if reached[-1] == "similar":
                    break
            assert {"stream", "spans", "earlier", "later", "now", "moment", "similar"} <= set(reached), reached
            page.keyboard.press("Enter")
            expect(page.locator("#similar-words")).to_contain_text("Like the selected window", timeout=WAIT_MS)
            before = page.locator("#moment-words").inner_text()
            page.locator("#moment").focus()
            page.keyboard.press("ArrowLeft")
            assert page.locator("#moment-words").inner_text() != before
            assert page.locator("#moment").get_attribute("aria-valuetext")
            page.locator("input[name=span][value='1']").check()
            expect(page.locator("body")).not_to_have_attribute("data-drawn", str(DAY_WINDOWS), timeout=WAIT_MS)
            made.check()
            return f"{len(reached)} steps from the top to a similar moment"

    def times_are_the_viewers(self) -> str:
        texts = []
        for zone in ("Pacific/Auckland", "America/St_Johns"):
            with visit(self.browser, self.url, timezone_id=zone) as made:
                expect(made.page.locator("#zone")).to_have_text(zone, timeout=WAIT_MS)
                expect(room(made.page)).to_contain_text("Window", timeout=WAIT_MS)
                texts.append(re.search(r"Window \d+: (\d\d):(\d\d)", room(made.page).inner_text()).groups())  # type: ignore[union-attr]
                made.check()
        offset = (int(texts[0][0]) * 60 + int(texts[0][1]) - int(texts[1][0]) * 60 - int(texts[1][1])) % 1440
        assert min(abs(offset - hours * 60) for hours in (15.5, 16.5)) < 2, texts
        return f"{texts[0][0]}:{texts[0][1]} in Auckland, {texts[1][0]}:{texts[1][1]} in St John's"

    def a_sleeper_catches_up(self) -> str:
        """A tab in the background has no connection; in front again, it says what it got last."""
        with visit(self.browser, self.url) as made:
            expect(room(made.page)).to_contain_text("Window", timeout=WAIT_MS)
            asked: list[str] = []
            made.page.on("request", lambda one: asked.append(one.url) if "/live" in one.url else None)
            made.page.evaluate(HIDE, True)
            before = self.newest()
            until(lambda: self.newest() > before + 3, "the daemon publishes nothing")
            assert shown(made.page) <= before + 1, "a hidden tab is still connected"
            made.page.evaluate(HIDE, False)
            began = time.monotonic()
            until(lambda: shown(made.page) > before + 3, "the page does not catch up")
            took = time.monotonic() - began
            assert len(asked) == 1
            assert "after=" in asked[0]
            made.check()
            return f"{took:.1f} s after it was looked at again"

    def a_dead_connection_is_noticed(self) -> str:
        """Nothing comes, and the connection is not closed: as behind a proxy, or after the sleep of a computer."""
        with visit(self.browser, self.url) as made:
            expect(room(made.page)).to_contain_text("Window", timeout=WAIT_MS)
            self.view.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            try:
                expect(made.page.locator("#connection")).to_contain_text("does not answer", timeout=WAIT_MS)
                noticed_s = time.monotonic() - began
                before = self.newest()
            finally:
                self.view.send_signal(signal.SIGCONT)
            expect(made.page.locator("#connection")).to_have_text("Live", timeout=WAIT_MS)
            until(lambda: shown(made.page) > before, "the page does not catch up")
            made.check()
            return f"after {noticed_s:.0f} s; live {time.monotonic() - began - noticed_s:.1f} s later"

    def a_first_question_that_fails_is_asked_again(self) -> str:
        """The server may be busy when the page opens. Nothing is heard here: no window tells of the stream."""
        with visit(self.browser, "about:blank", base=self.url) as made:
            answers = []

            def refuse(route: Any) -> None:
                answers.append(route.request.url)
                route.fulfill(status=503, json={"problem": "too many questions at once"})

            made.page.route(re.compile(r"/live(\?|$)"), lambda route: route.abort())
            made.page.route("**/remembered", refuse)
            made.page.goto(self.url)
            expect(made.page.locator("#line-words")).to_have_text("too many questions at once", timeout=WAIT_MS)
            made.page.unroute("**/remembered")
            drawn(made.page)
            return f"drawn after {len(answers)} refusals"

    def a_window_that_comes_with_an_answer_is_shown(self) -> str:
        """The answer was made before the window came, and arrives after it."""
        with visit(self.browser, self.url) as made:
            drawn(made.page)
            assert made.page.evaluate(OVERTAKEN), "the window is missing"
            made.check()
            return "also when it overtakes the answer"

    def a_proxy_that_answers_for_it_is_no_end(self) -> str:
        """While the server is away, a proxy may answer with a page of its own, after which browsers do not connect again."""
        with visit(self.browser, self.url) as made:
            expect(room(made.page)).to_contain_text("Window", timeout=WAIT_MS)
            answers = []

            def answer(route: Any) -> None:
                answers.append(route.request.url)
                route.fulfill(status=502, content_type="text/html", body="<title>502 Bad Gateway</title>")

            made.page.route("**/live*", answer)
            made.page.evaluate(HIDE, True)
            made.page.evaluate(HIDE, False)
            expect(made.page.locator("#connection")).to_contain_text("does not answer", timeout=WAIT_MS)
            made.page.unroute("**/live*")
            before = self.newest()
            expect(made.page.locator("#connection")).to_have_text("Live", timeout=WAIT_MS)
            until(lambda: shown(made.page) > before, "the page does not catch up")
            return f"live after {len(answers)} such answers"

    def many_tabs_are_no_trouble(self) -> str:
        """A browser has six connections to a server."""
        context = self.browser.new_context()
        for _ in range(TABS):
            page = context.new_page()
            page.goto(self.url, timeout=WAIT_MS)
            expect(room(page)).to_contain_text("Window", timeout=WAIT_MS)
            page.evaluate(HIDE, True)
        context.close()
        return f"{TABS} tabs, of which one is looked at"

    def an_open_page_does_not_grow(self) -> str:
        """As after hours: each time it asks again, all is drawn again."""
        with visit(self.browser, self.url) as made:
            page = made.page
            drawn(page)
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable")

            def measured() -> dict[str, float]:
                session.send("HeapProfiler.collectGarbage")
                found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
                return {name: found[name] for name in ("Nodes", "JSEventListeners", "JSHeapUsedSize")}

            def refresh(times: int) -> None:
                page.evaluate(REFRESH, times)

            refresh(REFRESHES)
            before = measured()
            refresh(REFRESHES)
            after = measured()
            made.check()
        grown = {name: after[name] / before[name] for name in before}
        assert max(grown.values()) < MAX_GROWTH, (before, after)
        return f"over {REFRESHES} refreshes: " + ", ".join(f"{name} x {ratio:.2f}" for name, ratio in grown.items())

    def clocks_that_change_are_told(self) -> str:
        """On the 25th of October 2026, Berlin's clocks show the hour from 2 to 3 twice."""
        with visit(self.browser, self.url, timezone_id="Europe/Berlin") as made:
            values, texts = made.page.evaluate(TICKS, [1792879200000, 1792879200000 + 25 * 3_600_000, 30])
            made.check()
        hours = [int(text[:2]) for text in texts[1:]]
        assert hours == list(range(1, 24)), texts
        steps = {(b - a) // 3_600_000 for a, b in pairwise(values)}
        assert steps == {1, 2}, "one hour is twice as wide"
        assert values[3] - values[2] == 3_600_000 * (2 if hours[2] == 3 else 1)
        return "the axis has 25 hours"

    def newest(self) -> int:
        """The number of the newest window that was published."""
        with Subscriber(self.stage.publish, control=self.stage.control, last=1) as subscriber:
            received = subscriber.receive(PATIENCE_S)
            assert received is not None
            assert isinstance(received.message, Embedding)
            return received.message.seq

    def other_pages_get_nothing(self) -> str:
        with _another_site() as elsewhere:
            page = self.browser.new_page()
            page.goto(elsewhere)
            found = page.evaluate(TRIED, self.url)
            framed = [frame for frame in page.frames if frame.url.startswith(self.url) and frame.locator("#streams").count()]
            page.close()
        failing = ("read", "put", "script", "events")
        assert [found[name] for name in failing] == ["failed"] * len(failing), found
        assert not framed, "the page can be framed"
        port = self.url.rstrip("/").rpartition(":")[2]
        page = self.browser.new_page()
        answer = page.goto(f"http://{REBOUND}:{port}/")
        assert answer is not None
        assert answer.status == 421
        assert page.evaluate("async () => (await fetch('/remembered')).status") == 421
        page.close()
        return f"{found}; by another name: 421"


def shown(page: Page) -> int:
    found = re.search(r"Window (\d+):", room(page).inner_text())
    return int(found[1]) if found else -1


@contextmanager
def _another_site() -> Iterator[str]:
    """A page of another origin on this machine."""

    class Empty(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>elsewhere</title><body></body>")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def daemons_and_streams_come_and_go(made_stage: Stage, browser: Browser) -> str:
    """Without a memory: the page lives through the loss of a stream, of the daemon, and of its own server."""
    daemon = made_stage.daemon("--source", "synth:tone?name=tone&seconds=4")
    view, url = made_stage.view(made_stage.folder / "none")
    with visit(browser, url) as made:
        page = made.page
        expect(page.locator("article[data-stream=tone]")).to_contain_text("The audio is over", timeout=WAIT_MS)
        expect(room(page)).to_contain_text("Listening", timeout=WAIT_MS)
        expect(page.locator("#missing")).to_contain_text("mertd run --remember")
        page.wait_for_selector("body[data-drawn]")
        made_stage.end(daemon)
        expect(room(page)).to_contain_text("does not answer", timeout=WAIT_MS)
        daemon = made_stage.daemon()
        began = time.monotonic()
        expect(room(page)).to_contain_text("Listening", timeout=WAIT_MS)
        expect(room(page)).to_contain_text(re.compile(r"Window \d:"), timeout=WAIT_MS)
        back_s = time.monotonic() - began
        expect(page.locator("article[data-stream=tone]")).to_have_count(0)
        made.check()
        made_stage.end(view)
        expect(page.locator("#connection")).to_contain_text("does not answer", timeout=WAIT_MS)
        made.complaints.clear()  # the browser says that nobody answers
        view, _ = made_stage.view(made_stage.folder / "none", url.removeprefix("http://").rstrip("/"))
        expect(page.locator("#connection")).to_have_text("Live", timeout=WAIT_MS)
        made.complaints.clear()
        until(lambda: shown(page) > 0, "the page is not live again")
        assert not made.foreign
    made_stage.end(view)
    made_stage.end(daemon)
    return f"live {back_s:.1f} s after the start of the next daemon; also after a restart of the page's server"


def markup_is_text(made_stage: Stage, browser: Browser) -> str:
    view = made_stage.start(
        "view", "--connect", made_stage.hostile, "--bind", "127.0.0.1:0", "--memory", str(made_stage.folder / "none")
    )
    assert view.stdout is not None
    url = view.stdout.readline().split()[-1]
    with hostile_daemon(made_stage.hostile) as socket, visit(browser, url) as made:
        card = made.page.locator("#streams article")

        def told() -> bool:
            for frames in hostile_words():
                socket.send_multipart(frames)
            made.page.wait_for_timeout(200)
            return card.count() == 1 and "Window 0" in card.inner_text()

        until(told, "the hostile daemon is not shown")
        for details in made.page.locator("summary").all():
            details.click()
        made.page.wait_for_selector("#stream option", state="attached")
        text = made.page.locator("main").inner_text()
        assert text.count(HOSTILE) >= 5, text
        assert made.page.locator("main img").count() == 0
        assert made.page.evaluate("() => typeof window.hacked") == "undefined"
        made.check()
    made_stage.end(view)
    return f"{HOSTILE} is shown {text.count(HOSTILE)} times, as text"


def what_is_over_is_shown(made_stage: Stage, browser: Browser) -> str:
    """Without a memory, and opened when no window will come any more."""
    view, url = made_stage.view(made_stage.folder / "none")
    daemon = made_stage.start("run", *made_stage.endpoints, *MODEL_OPTIONS, "--source", "synth:tone?name=tone&seconds=4")
    with visit(browser, url) as made:
        expect(made.page.locator("article[data-stream=tone]")).to_contain_text("The audio is over", timeout=WAIT_MS)
    with visit(browser, url) as made:
        expect(made.page.locator("#stream option")).to_have_text("tone", timeout=WAIT_MS)
        made.page.wait_for_selector("body[data-drawn]")
        made.check()
    made_stage.end(view)
    made_stage.end(daemon)
    return "the line of a stream that has ended"


def another_machine_opens_it(made_stage: Stage, browser: Browser) -> str:
    """By the name of this machine, with the token, and without what browsers only do for this machine itself."""
    daemon = made_stage.daemon()
    view, printed = made_stage.view(made_stage.folder / "none", "0.0.0.0:0")
    url = printed.partition("?")[0]
    assert gethostname() in url
    with visit(browser, printed, base=url) as made:
        expect(room(made.page)).to_contain_text("Window", timeout=WAIT_MS)
        made.page.wait_for_selector("body[data-drawn]")
        assert made.page.url == url, "the address no longer shows the token"
        made.page.reload()
        expect(room(made.page)).to_contain_text("Window", timeout=WAIT_MS)
        made.check()
        assert browser.new_page().goto(url).status == 401  # type: ignore[union-attr]
    made_stage.end(view)
    made_stage.end(daemon)
    return "live, with a token that becomes a cookie; 401 without"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tolerance", type=float, default=1.0, help="how much longer a busy machine may take to draw")
    parser.add_argument("--only", default="", help="only checks whose name contains this")
    given = parser.parse_args()
    tolerance = given.tolerance
    failed = 0

    def check(name: str, run: Callable[[], str]) -> None:
        nonlocal failed
        if given.only not in name:
            return
        began = time.monotonic()
        try:
            print(f"{name}: {run()}  [{time.monotonic() - began:.1f} s]", flush=True)
        except Exception:  # noqa: BLE001 - the next check may still say something
            failed += 1
            print(f"{name}: FAILED\n{traceback.format_exc()}", flush=True)

    with stage() as made_stage, chromium(f"--host-resolver-rules={RULES}") as browser:
        check("daemons and streams come and go", functools.partial(daemons_and_streams_come_and_go, made_stage, browser))
        check("another machine opens it", functools.partial(another_machine_opens_it, made_stage, browser))
        check("what is over is shown", functools.partial(what_is_over_is_shown, made_stage, browser))
        check("markup is text", functools.partial(markup_is_text, made_stage, browser))
        remember_a_day(made_stage.memory, DAY_WINDOWS, time.time_ns())
        daemon = made_stage.daemon()
        view, url = made_stage.view()
        run = Run(made_stage, browser, view, url, tolerance)
        check("a day is drawn", run.a_day_is_drawn)
        check("vectors appear at once", run.vectors_appear_at_once)
        check("everyone can use it", run.everyone_can_use_it)
        check("the keyboard is enough", run.the_keyboard_is_enough)
        check("times are the viewer's", run.times_are_the_viewers)
        check("a sleeper catches up", run.a_sleeper_catches_up)
        check("a dead connection is noticed", run.a_dead_connection_is_noticed)
        check("a first question that fails is asked again", run.a_first_question_that_fails_is_asked_again)
        check("a window that comes with an answer is shown", run.a_window_that_comes_with_an_answer_is_shown)
        check("a proxy that answers for it is no end", run.a_proxy_that_answers_for_it_is_no_end)
        check("many tabs are no trouble", run.many_tabs_are_no_trouble)
        check("an open page does not grow", run.an_open_page_does_not_grow)
        check("clocks that change are told", run.clocks_that_change_are_told)
        check("other pages get nothing", run.other_pages_get_nothing)
        made_stage.end(view)
        made_stage.end(daemon)
    raise SystemExit(f"{failed} checks failed" if failed else 0)


if __name__ == "__main__":
    main()
