"""The table of layouts: its words can be found, and each layout has a sample."""

import json
import re
from typing import Any

import pytest

from sidecar.core.reports.text import TextBounce, read_text, reading
from sidecar.core.reports.text.layout import Layout
from sidecar.core.reports.text.layouts import FORMATS, LAYOUTS
from tests import DATA


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.program)
def test_layout(layout: Layout) -> None:
    """A format is one lower-case word, and the words that must be there are as the reader compares them."""
    assert re.fullmatch("[a-z0-9]+", layout.format)
    assert layout.program
    words = list(layout.phrases) + list(layout.needs)
    assert words
    assert [word for word in words if word != word.lower() or b"  " in word or b"\n" in word] == []
    assert layout.recipient.groups >= 1


def test_formats() -> None:
    """Each format has a sample."""
    sampled = {json.loads(path.read_text())["format"] for path in (DATA / "bounces").glob("*.json")}
    known = {layout.format for layout in LAYOUTS} | FORMATS.keys()
    assert known - sampled == {"statusless"}  # in tests/data/reports: it needs a report that lacks its status part


def test_each_layout_has_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layout that no sample reaches can be wrong, or stand behind one that takes its texts."""
    reached = []
    built = reading._bounce

    def bounce(layout: Layout | None, *rest: Any) -> TextBounce:
        reached.append(layout)
        return built(layout, *rest)

    monkeypatch.setattr(reading, "_bounce", bounce)
    for path in (DATA / "bounces").glob("*.eml"):
        read_text(path.read_bytes(), null_sender=True)
    assert [layout.program for layout in LAYOUTS if all(layout is not one for one in reached)] == []
