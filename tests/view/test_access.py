"""Who may read the page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mertd.errors import UsageError
from mertd.view.access import Access, Asked, access_for, known_names
from mertd.view.web_address import WebAddress, parse_address

NEAR = Access(WebAddress("127.0.0.1", 5592))
FAR = Access(WebAddress("0.0.0.0", 5592), known_names(["Studio.example."]), "secret")


def status(access: Access, **facts: str | None) -> int:
    refusal = access.refuse(Asked(**({"host": "127.0.0.1:5592"} | facts)))
    return refusal.status if refusal else 200


@pytest.mark.parametrize("host", ["127.0.0.1:5592", "127.0.0.1", "localhost:5592", "LOCALHOST", "localhost.:80", "[::1]:5592"])
def test_a_browser_on_this_machine_is_answered(host: str) -> None:
    assert status(NEAR, host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example",
            "evil.example:5592",
            "127.0.0.1.evil.example",
            "127.evil.example",
            "127.0.0.1.nip.io",
            "localhost.evil.example",
            "192.168.1.5:5592",
        ),
        *("", "a b", "127.0.0.1:5592, evil.example", "127.0.0.1:5592/", "user@127.0.0.1", "[::1", "127.0.0.1\r\nX: y", None),
    ],
)
def test_another_name_is_refused(host: str | None) -> None:
    """With DNS rebinding, a page of evil.example reaches this server, but calls it evil.example."""
    assert status(NEAR, host=host) == 421


@given(st.text(max_size=40))
def test_no_odd_host_gets_through(host: str) -> None:
    known = host.lower().partition(":")[0].rstrip(".") in ("127.0.0.1", "localhost") or host.startswith("[")
    assert known or status(NEAR, host=host) == 421


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", ""])
def test_nothing_can_be_changed(method: str) -> None:
    assert status(NEAR, method=method) == 405
    assert status(FAR, method=method, token="secret") == 405


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:3000", "file://", "http://127.0.0.1:80", ""]
)
def test_other_pages_are_refused(origin: str) -> None:
    assert status(NEAR, origin=origin) == 403


def test_its_own_page_is_answered() -> None:
    assert status(NEAR, origin="http://127.0.0.1:5592", fetch_site="same-origin") == 200
    assert status(NEAR, host="localhost:5592", origin="http://localhost:5592") == 200
    assert status(FAR, host="studio.example", origin="https://studio.example", token="secret") == 200  # TLS of a proxy
    assert status(FAR, host="studio.example", origin="https://studio.example:8443", token="secret") == 200  # and its port
    assert status(FAR, host="studio.example", origin="https://evil.example", token="secret") == 403
    assert status(NEAR, host="localhost", origin="http://localhost:5592") == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pages_elsewhere_may_link_to_it_and_no_more(site: str) -> None:
    assert status(NEAR, fetch_site=site, fetch_mode="navigate") == 200
    assert status(NEAR, fetch_site=site, fetch_mode="no-cors") == 403
    assert status(NEAR, path="/live", fetch_site=site, fetch_mode="navigate") == 403


def test_another_machine_needs_the_token() -> None:
    here = {"host": "192.168.1.5:5592"}
    assert status(FAR, **here) == 401
    for wrong in ("", "secre", "secret2", "sécret"):
        assert status(FAR, **here, token=wrong) == 401
        assert status(FAR, **here, cookie=f"mertd_view_5592={wrong.encode('ascii', 'replace').decode()}") == 401
        assert status(FAR, **here, authorization=f"Bearer {wrong}") == 401
    assert status(FAR, **here, token="secret") == 200
    assert status(FAR, **here, cookie="other=1; mertd_view_5592=secret") == 200
    assert status(FAR, **here, authorization="bearer secret") == 200
    assert status(FAR, **here, authorization="Basic secret") == 401
    assert status(FAR, **here, cookie="mertd_view_5593=secret") == 401
    assert status(FAR, host="evil.example", token="secret") == 421


@pytest.mark.parametrize(
    ("text", "host", "port", "url"),
    [
        ("127.0.0.1:5592", "127.0.0.1", 5592, "http://127.0.0.1:5592/"),
        ("localhost:80", "127.0.0.1", 80, "http://127.0.0.1:80/"),
        ("[::1]:0", "::1", 0, "http://[::1]:0/"),
        ("http://127.0.0.1:5592/", "127.0.0.1", 5592, "http://127.0.0.1:5592/"),
    ],
)
def test_addresses(text: str, host: str, port: int, url: str) -> None:
    found = parse_address(text)
    assert (found.host, found.port, found.url, found.is_loopback) == (host, port, url, True)


@pytest.mark.parametrize(
    "text", ["", "5592", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "tcp://1.2.3.4:5", "nas:5592", "::1:80"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match=r"HOST:PORT|write 127\.0\.0\.1"):
        parse_address(text)


def test_other_machines_reach_what_is_not_loopback() -> None:
    assert not parse_address("0.0.0.0:5592").is_loopback
    assert not parse_address("[::]:5592").is_loopback
    assert "0.0.0.0" not in parse_address("0.0.0.0:5592").url


def test_who_needs_a_token() -> None:
    """Behind a proxy, everyone comes from this machine."""
    near, far = WebAddress("127.0.0.1", 5592), WebAddress("0.0.0.0", 5592)
    assert access_for(near, (), "box", "secret").token is None
    proxied = access_for(near, ("studio.example",), "box", "secret")
    assert (status(proxied, host="studio.example"), status(proxied, host="127.0.0.1:5592")) == (401, 401)
    assert status(proxied, host="studio.example", token="secret") == 200
    open_to_all = access_for(far, (), "Box", "secret")
    for host in ("box:5592", "box.local:5592", "localhost:5592", "10.0.0.7:5592"):
        assert status(open_to_all, host=host, token="secret") == 200
    assert status(open_to_all, host="box.evil.example:5592", token="secret") == 421
