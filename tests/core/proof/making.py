"""Keys, signed mail and reports for the tests of proofs. Owns a DKIM signer of its own: the program has none."""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sidecar.core.proof import trace
from sidecar.core.proof.dkim.keys import read_key
from sidecar.core.proof.head import fields
from sidecar.core.proof.secret import read_secret
from sidecar.core.proof.trace import Traces
from sidecar.core.proof.values import Case, Checked, Verification
from sidecar.core.proof.verify import verify
from sidecar.core.reports.reading import read
from sidecar.core.settings.keys import Keys, PublicKey, Secret
from tests import DATA

SIGNED: Final = DATA / "signed"
"""Reports that real MTAs made for signed mail (tests/mta/make_signed_reports.py)."""

DAY: Final = 86400
NOW: Final = 20788 * DAY + 3600
"""2026-12-01 01:00 UTC."""
SENDER: Final = "news@bounce.sender.example"


def secret(line: bytes = b"the-secret-of-the-tests-is-no-secret") -> Secret:
    """Return the secret of a line that is one."""
    found = read_secret(line)
    assert isinstance(found, Secret), found
    return found


def public_key(name: str, content: bytes) -> PublicKey:
    """Return the key of a file that has one."""
    found = read_key(name, content)
    assert isinstance(found, PublicKey), found
    return found


@lru_cache(maxsize=1)
def rsa_key() -> RSAPrivateKey:
    """Make the RSA key of the tests."""
    return generate_private_key(65537, 1024)  # noqa: S505 - of tests, and quick to make


@lru_cache(maxsize=1)
def ed_key() -> Ed25519PrivateKey:
    """Make the Ed25519 key of the tests."""
    return Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def pem(key: RSAPrivateKey | Ed25519PrivateKey) -> bytes:
    """Return the public key in PEM."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@lru_cache(maxsize=1)
def keys() -> Keys:
    """Return the keys of the tests: one secret, and a DKIM key of each kind for sender.example."""
    found = (
        public_key("rsa._domainkey.sender.example", pem(rsa_key())),
        public_key("ed._domainkey.sender.example", pem(ed_key())),
    )
    return Keys(secrets=(secret(),), dkim={(one.selector, one.domain): one for one in found})


MAIL: Final = """\
From: News <news@sender.example>
To: "Jo (at home), Example" <jo@remote.example>, Al <al@remote.example>
Subject: The news of the week
Date: Tue, 01 Dec 2026 00:30:00 +0000
Message-ID: <week-17@sender.example>

Nothing happened.
"""
NAMES: Final = "from:to:cc:subject:date:message-id"


def dkim_field(message: str, kind: str = "rsa", **tags: str) -> str:
    """Return the DKIM-Signature field of a message with LF line ends (RFC 6376 section 5), by a kind of key, with `tags`."""
    head, _, body = message.partition("\n\n")
    values = {
        "v": "1",
        "a": "ed25519-sha256" if kind == "ed" else "rsa-sha256",
        "c": "relaxed/relaxed",
        "d": "sender.example",
        "s": kind,
        "t": str(NOW - 1800),
        "h": NAMES,
    } | tags
    header_form, _, body_form = values["c"].partition("/")
    text = _body(body, body_form or "simple")
    hashed = text[: int(values["l"])] if values.get("l", "").isdigit() else text
    values.setdefault("bh", base64.b64encode(hashlib.sha256(hashed).digest()).decode())
    values = {name: value for name, value in values.items() if value}
    unsigned = f"DKIM-Signature: {'; '.join(f'{name}={value}' for name, value in values.items())}; b="
    left = re.findall(r"(?m)^\S.*(?:\n[ \t].*)*", head)
    signed = []
    for name in values.get("h", "").split(":"):
        at = next((at for at in reversed(range(len(left))) if left[at].lower().startswith(f"{name}:")), None)
        if at is not None:
            signed.append(left.pop(at))
    octets = "\r\n".join(_field(one, header_form) for one in (*signed, unsigned)).encode()
    signature = ed_key().sign(hashlib.sha256(octets).digest()) if kind == "ed" else rsa_key().sign(octets, PKCS1v15(), SHA256())
    return unsigned + base64.b64encode(signature).decode() + "\n"


def _field(field: str, form: str) -> str:
    if form != "relaxed":
        return field.replace("\n", "\r\n")
    name, _, value = field.partition(":")
    return f"{name.lower()}:{' '.join(value.split())}"


def _body(body: str, form: str) -> bytes:
    lines = body.split("\n")
    if form == "relaxed":
        lines = [re.sub(r"[ \t]+", " ", line).rstrip(" ") for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    return "".join(f"{line}\r\n" for line in lines).encode() or (b"" if form == "relaxed" else b"\r\n")


def traced(message: str = MAIL, recipients: tuple[str, ...] = ("jo@remote.example",), **changes: Any) -> str:
    """Return a message with the trace header of its Message-ID."""
    values = {"message_id": "<week-17@sender.example>", "sender": SENDER} | changes
    return f"{trace.NAME}: {trace.trace(secret(), NOW, recipients=recipients, **values)}\n{message}"


def prvs(text: str = SENDER, now: float = NOW) -> str:
    """Return an address with a BATV token for 7 days, as another program makes it."""
    digits = f"0{(int(now // DAY) + 7) % 1000:03}"
    mac = hmac.new(secret().key, f"{digits}{text}".encode(), hashlib.sha1).hexdigest()[:6]
    return f"prvs={digits}{mac}={text}"


def bounce(original: str, *recipients: str) -> bytes:
    """Return a bounce report about a message."""
    groups = "".join(f"\nFinal-Recipient: rfc822;{one}\nAction: failed\nStatus: 5.1.1\n" for one in recipients)
    return (
        f"From: MAILER-DAEMON@mx.remote.example\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n\n"
        f"--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.remote.example\n{groups}\n"
        f"--b\nContent-Type: message/rfc822\n\n{original}\n--b--\n"
    ).encode()


def complaint(original: str, fields: str = "") -> bytes:
    """Return a feedback report about a message."""
    return (
        "From: fbl@provider.example\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\n\n"
        f"--b\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: t/1\nVersion: 1\n{fields}\n"
        f"--b\nContent-Type: message/rfc822\n\n{original}\n--b--\n"
    ).encode()


def verified(report: bytes, recipient: str = SENDER, known: Keys | None = None, now: float = NOW) -> Verification:
    """Verify a report with one envelope recipient."""
    return verify(read(report), recipients=[recipient], report=report, keys=known or keys(), now=now)[recipient]


def check_trace(head: bytes | str, recipient: str | None, reported: tuple[str, ...], known: Keys, now: float = NOW) -> Checked:
    """Check the trace headers of a header section for one envelope recipient of its report."""
    octets = head.encode() if isinstance(head, str) else head
    return Traces(fields(octets), Case(keys=known, now=now, reported=reported)).check(recipient)


def made() -> Mapping[str, Any]:
    """Return what is known about the reports of real MTAs: the time, the secret, and recipients by name."""
    found: Mapping[str, Any] = json.loads((SIGNED / "made.json").read_text())
    return found


def made_keys() -> Keys:
    """Return the keys for the reports of real MTAs."""
    found = [public_key(path.name, path.read_bytes()) for path in sorted(SIGNED.glob("*._domainkey.*"))]
    return Keys(secrets=(secret(made()["secret"].encode()),), dkim={(one.selector, one.domain): one for one in found})
