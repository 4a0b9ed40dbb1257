"""`make screenshots`: pictures of the console for the documents, of the records of the demonstration."""

import io
import sys
from pathlib import Path
from typing import Any, Final

from PIL import Image
from playwright.sync_api import Page

from tests import ROOT
from tests.daemon.http.console.browsing import CHROMIUM, chromium
from tests.demo.console import TOKENS, Demo, demo
from tests.mta.places import free_port
from tests.mta.processes import wait_until

FOLDER: Final = ROOT / "deploy" / "docs" / "images"
# The pages have few colours: with a palette the files are a third as large.
_COLOURS: Final = 255
_LIGHT: Final[dict[str, Any]] = {"color_scheme": "light", "viewport": {"width": 1280, "height": 800}}
_DARK: Final = _LIGHT | {"color_scheme": "dark"}
_PHONE: Final = _LIGHT | {"viewport": {"width": 360, "height": 740}}
_PAGES: Final = {
    "overview": "/console/?range=1h",
    "live": "/console/live",
    "search": "/console/search?type=Rejection",
    "explain": "/console/explain?peer=203.0.113.9&from=&to=x@bounce.example.com,y@gmail.com",
    "what-if": "/console/trial",
    "policy": "/console/policy?name=bounce.example.com",
    "suppression": "/console/suppression",
}


def main() -> int:
    """Make the pictures, and return the exit status."""
    if CHROMIUM is None:
        print("The pictures need the Debian package chromium.")  # noqa: T201 - the output of a command
        return 1
    FOLDER.mkdir(exist_ok=True)
    with demo(free_port()) as running, chromium() as browser:
        for suffix, options in (("", _LIGHT), ("-dark", _DARK), ("-phone", _PHONE)):
            with browser.new_context(**options) as context:
                page = context.new_page()
                _log_in(page, running)
                pages = _PAGES | {"record": _record(page, running)} if not suffix else {"overview": _PAGES["overview"]}
                for name, path in pages.items():
                    page.goto(running.address + path)
                    _save(page.screenshot(full_page=name not in {"live", "search"}), FOLDER / f"{name}{suffix}.png")
    return 0


def _log_in(page: Page, running: Demo) -> None:
    page.goto(f"{running.address}/console/login")
    page.get_by_label("Token").fill(TOKENS["operator"])
    page.get_by_role("button", name="Log in").click()


def _record(page: Page, running: Demo) -> str:
    """Return the address of a rejection, when the index has all records."""
    links = page.locator("a[href*='/console/record']")

    def is_complete() -> bool:
        page.goto(f"{running.address}/console/search?type=OOB")
        return links.count() > 1

    wait_until(is_complete, "the index has the records")
    page.goto(f"{running.address}/console/search?type=Rejection")
    return str(links.last.get_attribute("href"))


def _save(picture: bytes, path: Path) -> None:
    with Image.open(io.BytesIO(picture)) as image:
        image.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
