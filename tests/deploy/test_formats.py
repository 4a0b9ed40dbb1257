"""The list of bounce formats is that of the reader."""

from sidecar.core.reports.text.layouts import LAYOUTS
from tests.deploy.formats import PAGE, page


def test_the_page_has_every_format() -> None:
    """If this fails: `python -m tests.deploy.formats`."""
    text = PAGE.read_text(encoding="utf-8")
    assert text == page()
    assert all(f"| `text:{layout.format}` |" in text for layout in LAYOUTS)
