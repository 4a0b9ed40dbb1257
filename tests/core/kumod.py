"""The mails of `tests/data/kumomta/reports.jsonl`, each with the answer and the records of a running kumod."""

import json
from typing import Any

import pytest

from tests import DATA

MAILS: list[dict[str, Any]] = [json.loads(line) for line in (DATA / "kumomta/reports.jsonl").read_text().splitlines()]

each_mail = pytest.mark.parametrize("mail", MAILS, ids=lambda mail: mail["name"])


def message_of(mail: dict[str, Any]) -> bytes:
    """Return the message as it was sent; the file has one character for each byte."""
    content: str = mail["mail"]
    return content.encode("latin-1")
