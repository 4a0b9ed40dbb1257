"""The page and the picture."""

import re
import shutil
import subprocess
import sys
from html import escape
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from sidecar.commands.stats.collector import Collector
from sidecar.commands.stats.page import VARIANTS, page
from sidecar.commands.stats.summary import Summary
from sidecar.core.records import decode
from tests import ROOT
from tests.commands.stats.test_collector import record

MADE = "2026-11-30T08:37:40Z"
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\x00\x1b[31m\u202e",
    "$\\frac{1}{0}$ $x^{",
    "日本" * 99,
    "&amp;",
)


@pytest.fixture(scope="module")
def plots() -> ModuleType:
    """Import matplotlib now: each process that collects tests would take 0.4 s for it."""
    return import_module("sidecar.commands.stats.plots")


def summary_of(*texts: str) -> Summary:
    """Count records in which everything that external hosts choose is one of `texts`."""
    collector = Collector()
    for text in texts:
        response = {"code": 550, "content": text}
        report = {"feedback_type": text, "user_agent": text}
        for kind in ("Rejection", "OOB", "Feedback", text):
            fields = {"name": text, "addr": text, "recipient": f"x@{text}", "bounce_classification": text}
            meta = {"why": text} if kind == "Rejection" else {}
            collector.add(decode(record(kind, response=response, feedback_report=report, meta=meta, created=1, **fields)))
    return collector.summary()


_TAGS = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "h1",
    "h2",
    "p",
    "picture",
    "source",
    "img",
    "var",
    "div",
    "section",
    "span",
    "table",
    "tr",
    "td",
    "i",
}


class Reader(HTMLParser):
    """Reads a page as a browser would: which elements, which addresses, which text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.text += data


def test_no_external_text_is_markup() -> None:
    """Text of external hosts is text on the page: no element, no attribute, no control of a terminal."""
    reader = Reader()
    written = page(summary_of(*HOSTILE), dict.fromkeys(VARIANTS, b"<svg/>"), host="<b>\x1b[2J", made=MADE)
    reader.feed(written)
    assert reader.tags <= _TAGS
    allowed = {"lang", "charset", "http-equiv", "content", "name", "class", "colspan", "style", "alt", "src", "srcset", "media"}
    assert {name for name, _ in reader.attributes} <= allowed
    pictures = [value for name, value in reader.attributes if name in {"src", "srcset"}]
    assert pictures == ["data:image/svg+xml;base64,PHN2Zy8+"] * 4
    assert all(line.isprintable() for line in written.split("\n"))
    assert reader.text.count("<script>alert(1)</script>") >= 5


def test_nothing_from_elsewhere() -> None:
    """The page needs no other host, and its policy forbids the browser to ask one or to run anything."""
    written = page(summary_of("a"), dict.fromkeys(VARIANTS, b"<svg/>"), host="mx1.example.com", made=MADE)
    assert not re.search(r"https?://|url\(|@import|<script|<link", written)
    assert "Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\"" in written


@pytest.mark.parametrize("texts", [HOSTILE, ()])
def test_pictures(texts: tuple[str, ...], plots: ModuleType) -> None:
    """With any names and without any record, there is a picture, and the same one again for the same figures."""
    summary = summary_of(*texts)
    assert plots.picture(summary, host="mx1").startswith(b"\x89PNG")
    drawn = {(dark, narrow): plots.timeline_svg(summary, dark=dark, narrow=narrow) for dark, narrow in VARIANTS}
    assert all(b"<svg" in svg for svg in drawn.values())
    assert plots.timeline_svg(summary) == drawn[False, False]


@pytest.mark.parametrize("span", [1, 60, 86400, 400 * 86400, 1000 * 365 * 86400])
def test_any_range(span: int, plots: ModuleType) -> None:
    """Seconds and millennia can be drawn."""
    collector = Collector()
    for when in (1, span):
        collector.add(decode(record(timestamp=when, meta={"count": 10**30})))
    assert b"<svg" in plots.timeline_svg(collector.summary())


def test_settings_of_matplotlib_elsewhere(tmp_path: Path, plots: ModuleType) -> None:
    """A settings file of matplotlib's where the program starts changes nothing: it could have other programs run."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nsvg.fonttype: none\nfont.size: 40\n")
    code = "import sys; from sidecar.commands.stats.collector import Collector; from sidecar.commands.stats.plots import *; "
    code += "sys.stdout.buffer.write(timeline_svg(Collector().summary()))"
    drawn = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, check=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert drawn.stdout == plots.timeline_svg(Collector().summary())


def test_title() -> None:
    """The title names the host and the times of the records, and the page says when it was made."""
    summary = summary_of("a")
    assert (summary.first, summary.last) == ("1970-01-01T00:00:01Z", "2026-11-22T12:00:00Z")
    written = page(summary, dict.fromkeys(VARIANTS, b""), host="mx1.example.com", made=MADE)
    assert "<title>mx1.example.com, 1970-01-01 00:00:01 to 2026-11-22 12:00:00 UTC: sidecar stats</title>" in written
    assert "<h1>Records on mx1.example.com</h1>" in written
    assert "Made at 2026-11-30 08:37:40 UTC. All times are in UTC." in written
    asked = Collector(since=0.0, until=86400.0).summary()
    assert "<title>mx1.example.com from 1970-01-01 00:00:00 until 1970-01-02 00:00:00 UTC: sidecar stats</title>" in (
        page(asked, {}, host="mx1.example.com", made=MADE)
    )


def test_placeholders_are_marked() -> None:
    """`<ip>` in a reason stands for many addresses; `(unknown)` is no name. Both look different from text."""
    collector = Collector()
    why = {"why": 'peer 203.0.113.9 is no relay host for mail.example.com (d.toml:3 "<ip>".log_oob)'}
    collector.add(decode(record("Rejection", meta=why, addr="203.0.113.9")))
    collector.add(decode(record("Feedback", feedback_report={})))
    written = page(collector.summary(), dict.fromkeys(VARIANTS, b""), host="mx1", made=MADE)
    assert "peer <var>&lt;ip&gt;</var> is no relay host for <var>&lt;domain&gt;</var> (" in written
    assert '<td class="name note">(unknown)</td>' in written


WIDTHS = (390, 1280)
CHROMIUM = shutil.which("chromium")


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_shows_the_page_without_scrolling_sideways(tmp_path: Path, plots: ModuleType) -> None:
    """On a phone and on a wide screen no text is outside the window: a real browser measures the page."""
    summary = summary_of("a-very-long-label-of-a-customer." * 6 + "example", "x" * 200)
    written = page(summary, dict.fromkeys(VARIANTS, plots.timeline_svg(summary)), host="mx1", made=MADE)
    # A window has 500 pixels at least, a frame any width. The page without its policy: the script outside may measure it.
    framed = re.sub(r"<meta http-equiv=.*?>", "", written)
    frames = [f'<iframe width="{width}" height="900" style="border: 0" srcdoc="{escape(framed)}"></iframe>' for width in WIDTHS]
    measure = "Array.from(frames, frame => frame.document.documentElement.scrollWidth + ' of ' + frame.innerWidth).join()"
    body = f'<body onload="document.title = {measure}">{"".join(frames)}</body>'
    (tmp_path / "page.html").write_text(f"<!DOCTYPE html><title></title>{body}")
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
            f"file://{tmp_path / 'page.html'}",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert f"<title>{','.join(f'{width} of {width}' for width in WIDTHS)}</title>" in done.stdout
