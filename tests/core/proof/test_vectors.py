"""The examples of the document `verification.md` are true; tests/deploy/test_documents.py runs its commands."""

import re

from msgspec import Struct

from sidecar.core.proof import address, trace
from sidecar.core.proof.address import check_address
from sidecar.core.settings.keys import Keys
from tests.core.proof.making import DAY, check_trace, secret
from tests.deploy.documents import FOLDER, Document

SECRET = secret(b"the-secret-of-the-examples-is-no-secret")
KEYS = Keys(secrets=(SECRET,))
NOW = 20788 * DAY
JO = "jo@remote.example"


class Vector(Struct, frozen=True):
    """A row of a table of examples."""

    given: str
    made: str


def vectors(section: str) -> list[Vector]:
    """Return the rows of the first table of a section that has code in both columns."""
    tables = (table for table in Document(FOLDER / "verification.md").tables() if table.section == section)
    rows = [row for table in tables for row in table.rows if all("`" in cell for cell in row)]
    return [Vector(row[0], row[1].strip("`")) for row in rows]


def test_address_tokens() -> None:
    found = vectors("The address token")
    assert len(found) == 3
    for one in found:
        assert address.tagged(one.given.strip("`"), SECRET, NOW) == one.made
        assert check_address(one.made, KEYS, NOW).holds


def test_batv_tokens() -> None:
    (found,) = vectors("BATV")
    assert found.made.endswith(found.given.strip("`"))
    assert check_address(found.made, KEYS, NOW).holds
    assert not check_address(found.made, KEYS, NOW + 9 * DAY).holds


def test_traces() -> None:
    found = [one for one in vectors("The trace header") if "week-17" in one.given]
    assert len(found) == 2
    for one in found:
        message_id, sender, *recipients = re.findall("`([^`]+)`", one.given)
        value = trace.trace(
            SECRET, NOW, message_id=message_id, sender=sender, recipients=recipients or [JO, "al@remote.example"]
        )
        assert value == one.made
        head = f"Message-ID: {message_id}\n{trace.NAME}: {value}".encode()
        proved = check_trace(head, sender, (JO,), KEYS, NOW)
        assert proved.holds
        assert bool(proved.recipients) == bool(recipients)
