"""The server as browsers ask it: what is sent, what is refused, and what of it is text."""

from __future__ import annotations

import asyncio
import gzip
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from mertd.view.access import Access
from mertd.view.feed import MAX_VIEWERS
from mertd.view.listener import PROBLEM_MS, Daemons, Listener
from mertd.view.live_novelty import LiveNovelty
from mertd.view.memory_routes import MemoryRoutes
from mertd.view.site_files import SITE
from mertd.view.view_extra import chart_bundle
from mertd.view.web_address import WebAddress
from mertd.view.web_app import all_routes, make_app
from messages import embedding, status

BUDGET = 300_000
"""Bytes of the page without the bundle of charts."""


@pytest.fixture(scope="module")
def listener() -> Listener:
    return Listener(Daemons(("tcp://127.0.0.1:1",), ()))


@pytest.fixture(scope="module")
def browser(listener: Listener) -> TestClient:
    app = make_app(Access(WebAddress("127.0.0.1", 5592)), all_routes(listener, MemoryRoutes(Path("/nowhere"), LiveNovelty())))
    return TestClient(app, base_url="http://127.0.0.1:5592")


@pytest.fixture(scope="module")
def stranger(listener: Listener) -> TestClient:
    app = make_app(
        Access(WebAddress("0.0.0.0", 5592), token="secret"), all_routes(listener, MemoryRoutes(Path("/nowhere"), LiveNovelty()))
    )
    return TestClient(app, base_url="http://192.168.1.5:5592", follow_redirects=False)


def test_the_page_is_small_and_loads_only_its_own_files(browser: TestClient) -> None:
    page = browser.get("/").text
    links = [link for link in re.findall(r'(?:src|href)="([^"#][^"]*)"', page) if not link.startswith("plotly-")]
    scripts = [path.name for path in SITE.glob("*.js")]
    assert {link for link in links if link.endswith(".js")} <= set(scripts), "without a slash: a proxy may serve it elsewhere"
    total = len(page)
    for name in {*links, *scripts}:
        answer = browser.get(f"/{name}")
        assert answer.status_code == 200, name
        total += len(answer.content)
    assert total < BUDGET
    for path in SITE.iterdir():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?:https?:)?//(?!www\.w3\.org/2000/svg)[a-z0-9.-]+\.[a-z]{2,}", text), (
            f"{path.name} names a host"
        )
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), path.name


def test_chromium_is_told_to_compile_the_charts_code_while_it_arrives(browser: TestClient) -> None:
    (chart,) = set(re.findall(r'"(plotly-[^"]+)"', browser.get("/").text))
    hint, code = browser.get(f"/{chart}").content.split(b"\n", 1)
    assert hint == b"//# allFunctionsCalledOnLoad"
    assert code == chart_bundle().read_bytes()


def test_nothing_in_the_page_is_a_script_or_a_style(browser: TestClient) -> None:
    page = browser.get("/").text
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", page)


def test_every_answer_has_its_headers(browser: TestClient) -> None:
    for path in ("/", "/style.css", "/nothing"):
        headers = browser.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe-inline" not in policy.replace("style-src-attr 'unsafe-inline'", "")
        assert "unsafe-eval" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers


def test_the_bundle_of_charts_is_kept_for_ever(browser: TestClient) -> None:
    chart = re.search(r'data-chart="([^"]+)"', browser.get("/").text)
    assert chart is not None
    answer = browser.get(f"/{chart[1]}")
    assert answer.status_code == 200
    assert len(answer.content) > 1_000_000
    assert "immutable" in answer.headers["cache-control"]
    again = browser.get(f"/{chart[1]}", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_files_are_packed_for_who_is_far(browser: TestClient) -> None:
    raw = browser.get("/style.css", headers={"Accept-Encoding": "identity"})
    packed = browser.get("/style.css", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == raw.content  # the client has unpacked it
    assert len(gzip.compress(raw.content)) < len(raw.content)


@pytest.mark.parametrize(
    "path",
    [
        *("/../../etc/passwd", "/..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/style.css/../page.py"),
        *("/..\\..\\windows", "/site/index.html", "/index.html", "/__init__.py", "/%00", "/style.css%00.js", "/nothing"),
    ],
)
def test_no_address_becomes_a_path(browser: TestClient, path: str) -> None:
    answer = browser.get(path)
    assert answer.status_code == 404
    assert "root:" not in answer.text


@pytest.mark.parametrize("path", ["/", "/live", "/style.css", "/nothing", "/span?key=x", "/similar", "/remembered", "/lately"])
def test_other_hosts_pages_and_methods_are_refused(browser: TestClient, path: str) -> None:
    assert browser.get(path, headers={"Host": "evil.example"}).status_code == 421
    assert browser.get(path, headers={"Origin": "http://evil.example"}).status_code == 403
    posted = browser.post(path, headers={"Origin": "http://evil.example"}, data={"a": "b"})
    assert posted.status_code in (403, 405)
    assert browser.post(path).status_code == 405
    two = browser.get(path, headers=[("Host", "127.0.0.1:5592"), ("Host", "evil.example")])
    assert two.status_code in (400, 421)


def test_a_token_becomes_a_cookie(stranger: TestClient) -> None:
    refused = stranger.get("/")
    assert refused.status_code == 401
    assert "token" in refused.text
    assert stranger.get("/live").status_code == 401
    welcome = stranger.get("/?token=secret")
    assert (welcome.status_code, welcome.headers["location"]) == (303, "./")
    cookie = welcome.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert stranger.get("/").status_code == 200
    stranger.cookies.clear()
    assert stranger.get("/style.css", headers={"Authorization": "Bearer secret"}).status_code == 200


def test_what_happens_is_told_as_text(listener: Listener) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    listener.take(status(streams={hostile: {"state": "listening", "problem": "\r\n\r\nevent: x\ndata: y"}}), 1)
    listener.take(embedding(0, stream=hostile), 1)

    async def first() -> bytes:
        parts = listener.feed.follow(None)
        await anext(parts)
        found = await anext(parts)
        await parts.aclose()
        return found

    text = asyncio.run(first()).decode()
    assert text.startswith("id: ")
    assert text.count("\n\n") == 1, "a line break in a text ends no event"
    assert text.count("event: ") == 2, "its own, and one inside a text, where it means nothing"
    assert hostile in text


def test_a_problem_ends_for_who_saw_it() -> None:
    listener = Listener(Daemons(("tcp://127.0.0.1:1",), ()))

    async def told() -> list[str]:
        parts = listener.feed.follow(None)
        await anext(parts)
        before = await anext(parts)
        listener.complain("no such key", 1_000)
        listener.take(embedding(0), 2_000)  # of another daemon
        listener.complain("no such key", 3_000)
        during = await anext(parts)
        listener.take(embedding(1), 3_000 + PROBLEM_MS)
        after = await anext(parts)
        await parts.aclose()
        return [part.decode() for part in (before, during, after)]

    before, during, after = asyncio.run(told())
    assert '"problem":""' in before
    assert during.count('{"words":"no such key"}') == 1
    assert '{"words":""}' not in during
    assert after.count('{"words":""}') == 1


def test_there_is_an_end_to_viewers(browser: TestClient, listener: Listener) -> None:
    listener.feed.viewers += MAX_VIEWERS
    try:
        assert browser.get("/live").status_code == 503
    finally:
        listener.feed.viewers -= MAX_VIEWERS


def test_only_files_of_the_page_are_served() -> None:
    assert {path.suffix for path in SITE.iterdir()} <= {".html", ".css", ".js", ".svg"}
    assert not Path(SITE, "index.html").is_symlink()
