"""The proofs: any report, address and key file is answered, and none is believed that nothing of ours made.

Owns what is true of a verification by itself. The input is a returned message; each seed has a signature, a trace or a token.
"""

from collections.abc import Iterator

from sidecar.core.proof.dkim.keys import read_key
from sidecar.core.proof.reporter import read_reporter
from sidecar.core.proof.secret import read_secret
from sidecar.core.proof.verify import verify
from sidecar.core.reports.reading import read
from sidecar.core.settings.keys import PublicKey
from tests.core.proof.making import MAIL, NOW, SENDER, bounce, dkim_field, ed_key, keys, pem, traced

_VICTIM = "victim@remote.example"


def seeds() -> Iterator[bytes]:
    """Return mail of ours, and what else is read: a key, a token, results of authentication."""
    for form in ("relaxed/relaxed", "simple/simple"):
        yield (dkim_field(MAIL, c=form) + MAIL).encode()
        yield traced(dkim_field(MAIL, "ed", c=form) + MAIL).encode()
    yield pem(ed_key())
    yield b"v=DKIM1; k=ed25519; t=s; p=A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
    yield b"prvs=0795abcdef=news@bounce.sender.example"
    yield b"Authentication-Results: mx; dkim=pass (a) header.d=b.example; spf=pass smtp.mailfrom=c.example\n"


def check(data: bytes) -> None:
    """Check that data as a returned message, an address, a header section and two kinds of file."""
    text = data.decode("utf-8", "replace")
    report = bounce("@", _VICTIM).replace(b"\n@\n", b"\n" + data + b"\n")
    (found,) = verify(read(report), recipients=[text.strip() or SENDER], report=data, keys=keys(), now=NOW).values()
    assert found.why.isprintable()
    assert found.proof(_VICTIM).verified != "recipient"
    assert all(one.holds or not (one.recipients or one.identity) for one in found.methods)
    read_reporter(data, ("mx",))
    for fault in (read_key("s._domainkey.a.example", data), read_secret(data)):
        assert not isinstance(fault, str) or fault.isprintable()
    named = read_key(text, pem(ed_key()))
    assert not isinstance(named, PublicKey) or f"{named.selector}._domainkey." in text.lower()
