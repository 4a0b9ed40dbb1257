"""Which records are wanted."""

from typing import Any

import pytest

from sidecar.commands.tail.filters import RecordFilter, make_filter
from sidecar.core.records import Logged, decode


def wants(record: Logged, **words: Any) -> bool:
    wanted = make_filter(**words)
    return wanted is None or wanted(record)


def record(**fields: str) -> Logged:
    """Make a record; `peer`, `why` and `content` stand where a record has them."""
    deep = {
        "peer": '"peer_address": {"name": "x", "addr": "%s"}',
        "why": '"meta": {"why": "%s"}',
        "queue_id": '"meta": {"queue_id": "%s"}',
        "verified": '"meta": {"verified": "%s"}',
        "content": '"response": {"code": 550, "content": "%s"}',
    }
    texts = [deep.get(name, f'"{name}": "%s"') % value for name, value in ({"type": "Rejection"} | fields).items()]
    return decode(f"{{{', '.join(texts)}}}".encode())


@pytest.mark.parametrize(
    ("words", "fields", "wanted"),
    [
        ({}, {}, True),
        ({"types": ("oob", "REJECTION")}, {}, True),
        ({"types": ("OOB",)}, {}, False),
        ({"types": ("oob",)}, {"type": "NewInKumo"}, False),
        ({"queue_ids": ("4QvJ1x", "4QvJ1y")}, {"queue_id": "4QvJ1y"}, True),
        ({"queue_ids": ("4QvJ1x",)}, {"queue_id": "4qvj1x"}, False),
        ({"queue_ids": ("4QvJ1x",)}, {}, False),
        ({"peers": ("203.0.113.0/24", "10.0.0.1")}, {"peer": "203.0.113.9"}, True),
        ({"peers": ("203.0.113.0/24", "10.0.0.1")}, {"peer": "10.0.0.1"}, True),
        ({"peers": ("203.0.113.0/24",)}, {"peer": "203.0.114.9"}, False),
        ({"peers": ("203.0.113.0/24",)}, {"peer": "::ffff:203.0.113.9"}, True),
        ({"peers": ("2001:db8::/32",)}, {"peer": "2001:db8::9"}, True),
        ({"peers": ("203.0.113.0/24",)}, {"peer": "nowhere"}, False),
        ({"peers": ("203.0.113.0/24",)}, {}, False),
        ({"domains": ("example.com",)}, {"recipient": "x@EXAMPLE.com"}, True),
        ({"domains": ("example.com",)}, {"recipient": "x@a.example.com"}, False),
        ({"domains": ("*.example.com",)}, {"recipient": "x@a.b.example.com"}, True),
        ({"domains": ("*.example.com",)}, {"recipient": "x@example.com"}, False),
        ({"domains": ("*.example.com",)}, {"recipient": "x@badexample.com"}, False),
        ({"domains": ("*.example.com", "example.com")}, {"recipient": "x@example.com"}, True),
        ({"domains": ("bücher.example",)}, {"recipient": "x@xn--bcher-kva.example"}, True),
        ({"domains": ("example.com",)}, {"queue": "example.com", "recipient": "x@other.example"}, True),
        ({"domains": ("example.com",)}, {"queue": "campaign:tenant@example.com!route.example"}, True),
        ({"domains": ("route.example",)}, {"queue": "campaign:tenant@example.com!route.example"}, False),
        ({"domains": ("example.com",)}, {}, False),
        ({"domains": ("*", "example.com")}, {}, True),
        ({"verified": ("message", "none")}, {"verified": "none"}, True),
        ({"verified": ("message",)}, {"verified": "recipient"}, False),
        ({"verified": ("none",)}, {}, False),
        ({"reason": "not A report"}, {"why": "Not a report, because"}, True),
        ({"reason": "no such"}, {"content": "5.1.1 No Such user"}, True),
        ({"reason": "no such"}, {"why": "other"}, False),
        ({"types": ("Rejection",), "reason": "x"}, {"why": "y"}, False),
        (
            {"types": ("Rejection",), "peers": ("10.0.0.1",), "domains": ("a.example",)},
            {"peer": "10.0.0.1", "queue": "a.example"},
            True,
        ),
    ],
)
def test_want(words: dict[str, Any], fields: dict[str, str], wanted: bool) -> None:
    """A record must fit one value of each kind that is named."""
    assert wants(record(**fields), **words) is wanted


def test_disposition() -> None:
    """A record is wanted by its disposition; KumoMTA's records have none."""
    wanted: RecordFilter | None = make_filter(dispositions=("relayed", "tempfailed"))
    assert wanted is not None
    found = [Logged(type="Reception", meta=meta) for meta in ({"disposition": "relayed"}, {"disposition": "dropped"}, {})]
    assert [wanted(one) for one in found] == [True, False, False]


def test_any() -> None:
    """Without filters, or with those that let everything pass, nothing need be read to know."""
    assert make_filter() is None
    assert make_filter(domains=("*",)) is None
    assert all(
        make_filter(**words) is not None
        for words in ({"types": ["OOB"]}, {"peers": ["::1"]}, {"domains": ["a.example"]}, {"reason": "x"})
    )


def test_several_recipients() -> None:
    """One of them is enough."""
    assert wants(decode(b'{"type":"Reception","recipient":["x@a.example","x@b.example"]}'), domains=("b.example",))


def test_meta_of_any_shape() -> None:
    """KumoMTA's operators put what they like into meta."""
    assert not wants(decode(b'{"type":"Reception","meta":{"why":["x"]}}'), reason="x")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"types": ("Rejections",)}, "There is no record type \"Rejections\". Did you mean 'Rejection'\\?"),
        (
            {"types": ("Zzz",)},
            'There is no record type "Zzz"\\. The types are Reception, Rejection, .*, XferIn, Suppression\\.',
        ),
        ({"peers": ("192.168.1.1/24",)}, 'has host bits set: .* Write "192.168.1.0/24"'),
        ({"peers": ("x",)}, "is neither an IP address nor a network"),
        ({"domains": ("a..b",)}, '"a..b" is no domain; write a complete name, or \\*.example.com'),
        ({"domains": ("a.*.b",)}, "is no domain"),
        ({"domains": ("",)}, "is no domain"),
    ],
)
def test_wrong_words(words: dict[str, Any], message: str) -> None:
    """What cannot be meant is rejected, with what to write instead."""
    with pytest.raises(ValueError, match=message):
        make_filter(**words)


def test_any_value_of_another_program() -> None:
    """A value that is no word matches nothing."""
    assert not wants(decode(b'{"type": "OOB", "meta": {"verified": {"none": []}}}'), verified=("none",))
