"""The page and the picture."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sidecar.commands.stats.collector import Collector
from sidecar.commands.stats.page import page
from sidecar.commands.stats.plots import picture, timeline_svg
from sidecar.commands.stats.summary import Summary
from sidecar.core.records import decode
from tests import ROOT
from tests.commands.stats.test_collector import record

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\x00\x1b[31m\u202e",
    "$\\frac{1}{0}$ $x^{",
    "日本" * 99,
    "&amp;",
)


def summary_of(*texts: str) -> Summary:
    """Count records in which everything that strangers choose is one of `texts`."""
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
    "img",
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


def test_nothing_of_strangers_is_markup() -> None:
    """Whatever strangers write is text on the page: no element, no attribute, no order to a terminal."""
    reader = Reader()
    written = page(summary_of(*HOSTILE), b"<svg/>")
    reader.feed(written)
    assert reader.tags <= _TAGS
    allowed = {"lang", "charset", "http-equiv", "content", "name", "class", "colspan", "style", "alt", "src"}
    assert {name for name, _ in reader.attributes} <= allowed
    assert [value for name, value in reader.attributes if name == "src"] == ["data:image/svg+xml;base64,PHN2Zy8+"]
    assert all(line.isprintable() for line in written.split("\n"))
    assert reader.text.count("<script>alert(1)</script>") >= 5


def test_nothing_from_elsewhere() -> None:
    """The page needs no other host, and its policy forbids the browser to ask one or to run anything."""
    written = page(summary_of("a"), timeline_svg(summary_of("a")))
    assert not re.search(r"https?://|url\(|@import|<script|<link", written)
    assert "Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\"" in written


@pytest.mark.parametrize("texts", [HOSTILE, ("a",), ()])
def test_pictures(texts: tuple[str, ...]) -> None:
    """Whatever the names are, and without any record, there is a picture, and the same one again for the same figures."""
    summary = summary_of(*texts)
    assert picture(summary).startswith(b"\x89PNG")
    svg = timeline_svg(summary)
    assert b"<svg" in svg
    assert svg == timeline_svg(summary)


@pytest.mark.parametrize("span", [1, 60, 86400, 400 * 86400, 1000 * 365 * 86400])
def test_any_range(span: int) -> None:
    """Seconds and millennia can be drawn."""
    collector = Collector()
    for when in (1, span):
        collector.add(decode(record(timestamp=when, meta={"count": 10**30})))
    assert b"<svg" in timeline_svg(collector.summary())


def test_settings_of_matplotlib_elsewhere(tmp_path: Path) -> None:
    """A settings file of matplotlib's where the program starts changes nothing: it could have other programs run."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nsvg.fonttype: none\nfont.size: 40\n")
    code = "import sys; from sidecar.commands.stats.collector import Collector; from sidecar.commands.stats.plots import *; "
    code += "sys.stdout.buffer.write(timeline_svg(Collector().summary()))"
    drawn = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, check=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert drawn.stdout == timeline_svg(Collector().summary())
