"""The list in CSV: what a spreadsheet would compute is text, and nothing is lost."""

import csv
import io
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.core.suppressed import COLUMNS, ListChange, ShownEntry, csv_lines, csv_lines_of_changes, unguarded

TIME = "2026-01-01T00:00:00Z"


def shown(address: str, reason: str) -> ShownEntry:
    return ShownEntry(address=address, reason=reason, source="reports", since=TIME, expires=None, reports=("1",))


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1), st.text(st.sampled_from("'=+-@\ta1,\"")))
@example("=cmd|'/c calc'!a0@x.test", "'=1")
def test_cells(address: str, reason: str) -> None:
    """No cell begins a formula, and each can be read back."""
    text = "".join(csv_lines([shown(address, reason)]))
    head, row = csv.reader(io.StringIO(text, newline=""))
    assert tuple(head) == COLUMNS
    assert not any(cell.startswith(("=", "+", "-", "@", "\t")) for cell in row)
    assert [*map(unguarded, row)] == [address, reason, "reports", TIME, ""]


def test_changes() -> None:
    """Those that are not on the list any more have neither reason nor time."""
    changes: list[Any] = [
        ListChange(revision=7, address="a@x.test", entry=shown("a@x.test", "abuse")),
        ListChange(revision=9, address="+b@x.test", entry=None),
    ]
    assert [*csv_lines_of_changes(changes)] == [
        "revision,address,reason,source,since,expires\n",
        f"7,a@x.test,abuse,reports,{TIME},\n",
        "9,'+b@x.test,,,,\n",
    ]
