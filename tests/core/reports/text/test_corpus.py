"""The samples of bounces and of other mail: who failed, and what the server said."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from sidecar.core.reports import mime
from sidecar.core.reports.reading import read
from sidecar.core.reports.text import is_from_mailer, read_text
from sidecar.core.reports.values import PerRecipient
from tests import DATA

PATHS: Final = {path.stem: path for path in sorted((DATA / "bounces").glob("*.eml"))}


def expected(path: Path) -> Any:
    """Return what the JSON beside a message says."""
    return json.loads(path.with_suffix(".json").read_text())


BOUNCES: Final = [name for name, path in PATHS.items() if expected(path)["format"] not in {"none", "rfc3464"}]
OTHERS: Final = [name for name, path in PATHS.items() if expected(path)["format"] == "none"]


def said(entry: PerRecipient) -> tuple[str, str, str, str]:
    """Return a recipient's address, action, reply code and enhanced code."""
    address = "" if entry.final_recipient is None else entry.final_recipient.recipient
    code = "" if entry.diagnostic_code is None else entry.diagnostic_code.diagnostic[:3]
    status = "" if entry.status is None else f"{entry.status.class_}.{entry.status.subject}.{entry.status.detail}"
    return address, entry.action, code if code.isdecimal() else "", status


@pytest.mark.parametrize("name", BOUNCES)
def test_bounce(name: str) -> None:
    """The format is the program's; each recipient has its address, its action and the codes that the text quotes for it."""
    content, wanted = PATHS[name].read_bytes(), expected(PATHS[name])
    bounce = read_text(content, null_sender=wanted["from"] == "")
    assert bounce is not None
    assert bounce.format == wanted["format"]
    assert [said(entry) for entry in bounce.report.per_recipient] == [
        (one["address"], one["action"], str(one["code"] or ""), one["status"] or "") for one in wanted["recipients"]
    ]
    assert wanted["from"] == "" or is_from_mailer(mime.split_message(content)[0])
    # Line ends make no difference.
    plain = content.replace(b"\r\n", b"\n")
    assert read_text(plain, null_sender=True) == read_text(plain.replace(b"\n", b"\r\n"), null_sender=True) is not None


@pytest.mark.parametrize("name", OTHERS)
def test_other_mail(name: str) -> None:
    """No recipient fails, whatever the envelope sender is."""
    content = PATHS[name].read_bytes()
    assert read_text(content, null_sender=True) is None
    assert read_text(content, null_sender=False) is None
    assert read(content).oob is None
