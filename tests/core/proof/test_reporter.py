"""Who sent a report, as trusted hosts say: only the first field of each counts."""

import pytest

from sidecar.core.proof.reporter import VALUE_LIMIT, read_reporter
from sidecar.core.proof.values import Reporter

MX = ("mx.sender.example",)


def read(*values: str, ids: tuple[str, ...] = MX) -> Reporter | None:
    head = "".join(f"Authentication-Results: {value}\n" for value in values)
    return read_reporter(f"Received: from a by b\n{head}Subject: x\n\nbody".encode(), ids)


@pytest.mark.parametrize(
    ("value", "dkim", "spf"),
    [
        ("mx.sender.example; dkim=pass header.d=Provider.example", ("provider.example",), None),
        (
            'MX.Sender.Example 1; dkim = pass (2048-bit key)\n\treason="good; dkim=pass" header.i=@a.provider.example',
            ("a.provider.example",),
            None,
        ),
        ("mx.sender.example; spf=pass smtp.mailfrom=fbl@provider.example", (), "provider.example"),
        ("mx.sender.example; spf=pass smtp.mailfrom= smtp.helo=mx.provider.example", (), "mx.provider.example"),
        (
            "mx.sender.example; dkim=fail header.d=a.example; dkim/1=pass header.d=b.example; dkim=pass header.d=c.example",
            ("b.example", "c.example"),
            None,
        ),
        ("mx.sender.example; dkim=pass header.d=b.example header.d=c.example", ("b.example",), None),
        (
            "mx.sender.example (a (nested; dkim=pass header.d=x.example) comment); dkim=pass header.d=b.example",
            ("b.example",),
            None,
        ),
        ('mx.sender.example; dkim=pass header.d="b.example"', ("b.example",), None),
    ],
)
def test_passed(value: str, dkim: tuple[str, ...], spf: str | None) -> None:
    assert read(value) == Reporter(authserv_id="mx.sender.example", dkim=dkim, spf=spf)


@pytest.mark.parametrize(
    "value",
    [
        "mx.other.example; dkim=pass header.d=provider.example",
        "x.mx.sender.example; dkim=pass header.d=provider.example",
        "mx.sender.example; none",
        "mx.sender.example; dkim=neutral header.d=provider.example",
        "mx.sender.example; dkim=pass",
        "mx.sender.example; dkim=pass header.d=..",
        "mx.sender.example; dmarc=pass header.from=provider.example",
        "mx.sender.example; dkim=fail (dkim=pass header.d=x.example; dkim=pass header.d=x.example) header.d=x.example",
        'mx.sender.example; dkim=fail reason="; dkim=pass header.d=x.example" header.d=x.example',
        'mx.sender.example; dkim=fail reason="; dkim=pass header.d=x.example',
        "mx.sender.example; dkim=fail (; dkim=pass header.d=x.example",
        "mx.sender.example dkim=pass header.d=provider.example",
        "",
        ";" * 5000,
        "x" * 5000,
        "mx.sender.example; spf=pass smtp.mailfrom=" + "x" * 5000 + ".example",
    ],
)
def test_nothing(value: str) -> None:
    """Other hosts, other results, and what stands in comments and quotes does not count."""
    assert read(value) is None


def test_first_counts() -> None:
    """A sender can write our id, too: below that of the MTA it does not count."""
    own, forged = "mx.sender.example; spf=fail smtp.helo=x.example", "mx.sender.example; dkim=pass header.d=bank.example"
    assert read(own, forged) is None
    assert read(forged, own) is not None
    other = "filter.sender.example; dkim=pass header.d=provider.example"
    found = read(own, forged, other, ids=(*MX, "filter.sender.example"))
    assert found == Reporter(authserv_id="filter.sender.example", dkim=("provider.example",))


def test_cut() -> None:
    """A field that is too long is cut, but never within a domain."""
    beginning, end = "mx.sender.example; x=", "; dkim=pass header.d=provider.example"
    padding = "y" * (VALUE_LIMIT - len(f" {beginning}{end}"))
    assert read(f"{beginning}{padding}{end}") is not None
    assert read(f"{beginning}{padding}{end}.other.example") is None
    assert read("mx.sender.example" + "; x=y" * 40 + end) is None


def test_untrusted() -> None:
    assert read("mx.sender.example; dkim=pass header.d=provider.example", ids=()) is None
    assert read(ids=MX) is None
    assert (
        read_reporter(b"A: b\r\nAuthentication-Results: mx.sender.example;\r\n dkim=pass header.d=a.example\r\n\r\n", MX)
        is not None
    )
