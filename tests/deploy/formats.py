"""The table of `deploy/docs/bounce-formats.md`, made from the reader's layouts. `python -m tests.deploy.formats` writes it."""

from sidecar.core.reports.text.layouts import FORMATS, LAYOUTS
from tests.deploy.documents import FOLDER

PAGE = FOLDER / "bounce-formats.md"
HEAD = "| `meta.read_as` | written by |\n|---|---|\n"


def table() -> str:
    """Return the table: one line for each format, in the order of their names."""
    written_by: dict[str, list[str]] = {}
    for layout in LAYOUTS:
        programs = written_by.setdefault(layout.format, [])
        if layout.program not in programs:
            programs.append(layout.program)
    rows = {name: "; ".join(programs) for name, programs in sorted(written_by.items())}
    rows |= FORMATS
    return HEAD + "".join(f"| `text:{name}` | {text} |\n" for name, text in rows.items())


def page() -> str:
    """Return the page with this table in place of its own."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(HEAD)
    lines = rest.splitlines(keepends=True)
    after = next((number for number, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return before + table() + "".join(lines[after:])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
