"""Take the pictures of the page: `PYTHONPATH=tests uv run --group browser python docs/pictures/page.py`.

The page is real, and so is the daemon below it, with a small random network; the day that it remembers is made. Chromium is
Debian's. matplotlib's Pillow makes the files small.
"""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, expect

from view.browser_stage import chromium, remember_a_day, stage

HERE = Path(__file__).parent
MAX_BYTES = 100_000
WINDOWS = 17_280
COLOURS = (128, 64, 48, 32, 24, 16)
WAIT_MS = 60_000
WIDTH = 900
PHONE = 390
HEIGHTS = {"view-light": 1_480, "view-dark": 1_480, "view-phone": 1_640}
PICTURES: dict[str, dict[str, Any]] = {
    "view-light": {"color_scheme": "light", "viewport": {"width": WIDTH, "height": 900}},
    "view-dark": {"color_scheme": "dark", "viewport": {"width": WIDTH, "height": 900}},
    "view-phone": {"color_scheme": "light", "viewport": {"width": PHONE, "height": 844}, "is_mobile": True, "has_touch": True},
}


def taken(browser: Browser, url: str, name: str) -> bytes:
    """The page as PNG, once all is drawn; its beginning."""
    context = browser.new_context(**PICTURES[name], locale="en-GB", timezone_id="Europe/Berlin")
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("body[data-drawn]", timeout=WAIT_MS)
    expect(page.locator("#similar-words")).to_contain_text("Like the", timeout=WAIT_MS)
    page.locator("#similar button").nth(3).click()
    expect(page.locator("#similar-words")).to_contain_text("Like the selected", timeout=WAIT_MS)
    page.locator("#moment").focus()
    page.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")
    page.wait_for_timeout(1_000)  # the last drawing
    width = PHONE if name == "view-phone" else WIDTH
    found = page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": width, "height": HEIGHTS[name]})
    context.close()
    return found


def small(picture: bytes) -> bytes:
    """The picture with as many colours as its size allows."""
    with Image.open(io.BytesIO(picture)) as image:
        for colours in COLOURS:
            packed = io.BytesIO()
            image.convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
            if packed.tell() < MAX_BYTES:
                return packed.getvalue()
    raise SystemExit(f"a picture of {len(picture)} bytes does not get below {MAX_BYTES}")


def main() -> None:
    with stage() as made, chromium() as browser:
        remember_a_day(made.memory, WINDOWS, time.time_ns())
        daemon = made.daemon()
        view, url = made.view()
        for name in PICTURES:
            picture = small(taken(browser, url, name))
            (HERE / f"{name}.png").write_bytes(picture)
            print(f"{name}.png: {len(picture):,} bytes")
        made.end(view)
        made.end(daemon)


if __name__ == "__main__":
    main()
