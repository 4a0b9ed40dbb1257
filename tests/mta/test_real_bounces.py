"""Samples of bounces and of other mail, real ones and ones by hand: they are sound, and only bounces are read as `failed`."""

import email
import json
import re
from email import policy
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec import Struct

from sidecar.core.reports.reading import read
from tests import DATA

BOUNCES: Final = DATA / "bounces"
SIZE_LIMIT: Final = 4096
"""Bytes of a sample: small enough to read."""

# Domains for examples: RFC 2606, RFC 6761. A name in a sample can be part of an address or stand alone.
_ADDRESS = re.compile(r"[\w.+=-]+@([a-z0-9.-]+\.[a-z]{2,})", re.IGNORECASE)
_EXAMPLE = re.compile(r"(?:.*\.)?example(?:\.(?:com|net|org))?", re.IGNORECASE)


class Recipient(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A recipient that a sample names. `code` and `status` are None if the message has none."""

    address: str
    action: str
    code: int | None
    status: str | None


class Sample(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a sample must be read. The fields are explained in `tests/data/bounces/README.md`."""

    format: str
    from_: str
    recipients: tuple[Recipient, ...]


def sample(path: Path) -> Sample:
    """Return what the JSON beside a message says."""
    fields: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    recipients = tuple(Recipient(**recipient) for recipient in fields.pop("recipients"))
    return Sample(from_=fields.pop("from"), recipients=recipients, **fields)


PATHS: Final = sorted(BOUNCES.glob("*.eml"))
SAMPLES: Final = {path.stem: sample(path) for path in PATHS}


def named(condition: Any) -> list[str]:
    """Return the names of the samples that meet a condition, which has the name and the sample."""
    return [name for name, one in SAMPLES.items() if condition(name, one)]


def content(name: str) -> bytes:
    """Return the message of a sample."""
    return (BOUNCES / f"{name}.eml").read_bytes()


def texts(message: bytes) -> str:
    """Return header values and text of all parts, decoded by the standard library: nested messages and status parts too."""
    found: list[str] = []
    for part in email.message_from_bytes(message, policy=policy.compat32).walk():
        found.extend(str(value) for value in part.values())
        payload = part.get_payload(decode=True)
        if isinstance(payload, bytes):
            found.append(payload.decode(part.get_content_charset() or "utf-8", "replace"))
    return "\n".join(found)


def test_there_are_samples_of_each_class() -> None:
    """A class whose files are lost would make every test of it pass."""
    counts = {
        "none": len(named(lambda _, one: one.format == "none")),
        "delayed": len(named(lambda name, _: name.startswith("delayed-"))),
        "report": len(named(lambda _, one: one.format == "rfc3464")),
        "text": len(named(lambda _, one: one.format not in ("none", "rfc3464"))),
    }
    assert counts["none"] >= 60
    assert counts["delayed"] >= 10
    assert counts["report"] >= 15
    assert counts["text"] >= 100
    assert {path.stem for path in BOUNCES.glob("*.json")} == set(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_sample_is_sound(name: str) -> None:
    """A sample is small, has only addresses for examples, and its text has each address and code that its JSON says.

    `none-` has no recipient, `delayed-` only delayed ones; any other sample has at least one recipient.
    """
    one, message = SAMPLES[name], content(name)
    text = texts(message)
    assert len(message) <= SIZE_LIMIT
    assert [domain for domain in _ADDRESS.findall(text) if not _EXAMPLE.fullmatch(domain)] == []
    for recipient in one.recipients:
        # AOL names its members without a domain.
        local = re.escape(recipient.address.partition("@")[0])
        assert recipient.address in text or (one.format == "aol" and re.search(rf"^\t{local}$", text, re.MULTILINE))
        assert recipient.status is None or recipient.status in text
        assert recipient.code is None or re.search(rf"(?<!\d){recipient.code}(?!\d)", text)
    actions = {recipient.action for recipient in one.recipients}
    if name.startswith("none-"):
        assert (one.format, actions) == ("none", set())
    elif name.startswith("delayed-") or name.endswith("-delayed"):
        assert actions == {"delayed"}
    else:
        assert one.format != "none"
        assert actions in ({"failed"}, {"delivered"})


@pytest.mark.parametrize("name", named(lambda _, one: one.format == "rfc3464"))
def test_real_report(name: str) -> None:
    """A report that a real program made is read whole: each recipient with action, code and status."""
    oob = read(content(name)).oob
    assert oob is not None
    found = []
    for recipient in oob.per_recipient:
        status, diagnostic = recipient.status, recipient.diagnostic_code
        code = None if diagnostic is None else re.match(r"([245]\d\d)[ -]", diagnostic.diagnostic)
        found.append(
            Recipient(
                address="" if recipient.final_recipient is None else recipient.final_recipient.recipient,
                action=recipient.action,
                code=None if code is None else int(code[1]),
                status=None if status is None else f"{status.class_}.{status.subject}.{status.detail}",
            )
        )
    assert tuple(found) == SAMPLES[name].recipients
    assert "Message-ID: <minutes-" in str(oob.original_message)


@pytest.mark.parametrize("name", named(lambda _, one: all(each.action != "failed" for each in one.recipients)))
def test_no_failed_recipient(name: str) -> None:
    """An automatic reply, a delay warning or a quoted bounce is never a failed recipient."""
    oob = read(content(name)).oob
    assert [each for each in ([] if oob is None else oob.per_recipient) if each.action == "failed"] == []
