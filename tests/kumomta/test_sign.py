"""sidecar_sign.lua makes the proofs of the reference, and those of the program for any message."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.proof import address, trace
from sidecar.core.proof.secret import read_secret
from sidecar.core.settings.keys import Secret
from tests.core.proof.test_vectors import JO, NOW, vectors
from tests.kumomta.node import Node

LINE = "the-secret-of-the-examples-is-no-secret"
MESSAGE_ID = "<week-17@example.com>"
FBL = "fbl@example.com"
Header = list[list[str]]


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Node() as node:
        node.do("clock", now=NOW + 3600)
        yield node


@pytest.fixture
def secret_file(tmp_path: Path) -> str:
    """A file as `sidecar keys make` writes it: with a line end."""
    (tmp_path / "secret").write_text(f"{LINE}\n")
    return str(tmp_path / "secret")


def secret() -> Secret:
    made = read_secret(LINE.encode())
    assert isinstance(made, Secret)
    return made


def header(*more: tuple[str, str], message_id: str = MESSAGE_ID) -> Header:
    return [["Message-ID", message_id], ["Subject", "hello"], *map(list, more)]


def signed(
    node: Node, options: dict[str, Any], sender: str, *recipients: str, fields: Header | None = None
) -> tuple[str, Header]:
    """Sign a message; return its sender and the fields before those that it had."""
    before = header() if fields is None else fields
    node.do("setup_sign", options=options)
    answer = node.do("sign", message={"sender": sender, "recipients": list(recipients), "header": before})
    assert (answer.error, answer.logged) == (None, {})
    after: Header = answer.result["header"]
    assert after[len(after) - len(before) :] == before
    return answer.result["sender"], after[: len(after) - len(before)]


def test_tokens_of_the_reference(node: Node, secret_file: str) -> None:
    options = {"secret": secret_file, "address": True, "header": False, "domains": ["example.com", "*.example.com"]}
    for one in vectors("The address token"):
        assert signed(node, options, one.given.strip("`"), JO) == (one.made, [])


def test_traces_of_the_reference(node: Node, secret_file: str) -> None:
    for one in vectors("The trace header"):
        if "week-17" in one.given:
            _, sender, *recipients = re.findall("`([^`]+)`", one.given)
            made = signed(node, {"secret": secret_file}, sender, *(recipients or [JO, "al@remote.example"]))
            assert made == (sender, [["X-Sidecar-Trace", one.made]])


SENDERS = [
    "bounce@example.com",
    "News.Letter@EXAMPLE.com",
    "b+jo=remote.example@sub.example.com",
    "b@example.com.",
    "",
    "bounce+q520788tf4haoek2khsi666@example.com",
    "Bounce+Q520788TF4HAOEK2KHSI666@Example.com",
    "prvs=679539c0d2=bounce@example.com",
    "SRS0=abc=de=other.example=jo@example.com",
    '"a b"@example.com',
    "a..b@example.com",
    ".a@example.com",
    "a.@example.com",
    "a(b@example.com",
    f"{'x' * 40}@example.com",
    f"{'x' * 41}@example.com",
    "a@[192.0.2.1]",
    "a+b+c@example.com",
    "{a}!#$%&'*+/=?^_`|~-@example.com",
]


def test_it_signs_as_the_program_does(node: Node) -> None:
    """Every sender gets the same token and trace header in Lua and in Python, or none in both."""
    options = {"secret": {"key_data": LINE}, "address": True, "domains": ["example.com", "*.example.com"]}
    for sender in SENDERS:
        new_sender, fields = signed(node, options, sender, "Jo@Remote.Example.")
        in_domains = sender.lower().rpartition("@")[2] in {"example.com", "sub.example.com"}
        expected = address.tagged(sender, secret(), NOW) if in_domains else sender
        value = trace.trace(secret(), NOW, message_id=MESSAGE_ID, sender=sender, recipients=["Jo@Remote.Example."])
        assert new_sender == expected, sender
        assert fields == ([["X-Sidecar-Trace", value]] if in_domains else []), sender
        # Of all domains, only the header is signed.
        assert signed(node, {"secret": options["secret"]}, sender, "Jo@Remote.Example.") == (
            sender,
            [["X-Sidecar-Trace", value]],
        )


@pytest.mark.parametrize(
    "fields",
    [
        [["Subject", "no id"]],
        header(("message-id", "<second@example.com>")),
        header(message_id=f"<{'x' * 1000}@example.com>"),
        header(message_id=" "),
    ],
)
def test_no_trace_without_one_message_id(node: Node, fields: Header) -> None:
    """A trace that could not be checked is not made; the other proofs are."""
    options = {"secret": {"key_data": LINE}, "cfbl_address": FBL, "address": True, "domains": ["example.com"]}
    sender, added = signed(node, options, "bounce@example.com", JO, fields=fields)
    assert sender == "bounce+q520788tf4haoek2khsi666@example.com"
    assert added == [["CFBL-Address", f"{FBL}; report=arf"]]


def test_what_another_host_has_added_stays(node: Node) -> None:
    value = trace.trace(secret(), NOW, message_id=MESSAGE_ID, sender="b@example.com", recipients=[JO])
    assert value is not None
    options = {"secret": {"key_data": LINE}, "cfbl_address": FBL}
    fields = header(("X-Sidecar-Trace", f"{value[:30]}\r\n {value[30:]}"), ("Cfbl-Address", "other@example.com; report=arf"))
    assert signed(node, options, "b@example.com", JO, fields=fields) == ("b@example.com", [])
    assert signed(node, options, "b@example.com", JO, fields=header(message_id=f"\r\n {MESSAGE_ID}")) == (
        "b@example.com",
        [["X-Sidecar-Trace", value], ["CFBL-Address", f"{FBL}; report=arf"], ["CFBL-Feedback-ID", value]],
    )


def test_addresses_that_need_a_labels(node: Node) -> None:
    """Such a sender is not signed, and such a recipient is left out of the trace: the script cannot make A-labels."""
    options = {"secret": {"key_data": LINE}}
    assert signed(node, options, "b@b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example", JO)[1] == []
    ((_, value),) = signed(node, options, "b@example.com", "jo@b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example")[1]
    assert value == trace.trace(secret(), NOW, message_id=MESSAGE_ID, sender="b@example.com", recipients=[])


@pytest.mark.parametrize(
    "content", [None, b"", b"too short\n", b"x" * 257, b"first line of a secret that is long enough\nsecond\n"]
)
def test_a_message_is_relayed_unsigned_without_a_secret(tmp_path: Path, content: bytes | None) -> None:
    """A missing or wrong secret never loses mail; the log says so, and never shows the file's content."""
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    message = {"sender": "b@example.com", "recipients": [JO], "header": header()}
    with Node() as node:
        node.do("setup_sign", options={"secret": str(tmp_path / "secret"), "address": True, "domains": ["example.com"]})
        answer = node.do("sign", message=message)
    assert (answer.error, answer.result) == (None, message)
    (line,) = answer.logged
    assert line.startswith("sidecar: a message is relayed unsigned: ")
    assert content is None or "line of a secret" not in line


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "secret is missing: name the file of the secret."),
        ({"secret": "s", "adress": True}, "adress is no option: use secret, header, address, cfbl_address and domains."),
        ({"secret": "s", "header": "yes"}, "header is neither true nor false."),
        ({"secret": "s", "address": 1, "domains": ["a.example"]}, "address is neither true nor false."),
        ({"secret": "s", "address": True}, "address needs domains: list the sender domains whose bounces come back to you."),
        ({"secret": "s", "cfbl_address": "fbl"}, "cfbl_address is no mail address: write one such as 'fbl@example.com'."),
        (
            {"secret": "s", "domains": "example.com"},
            "domains is no list of domains: write one such as { 'example.com', '*.example.com' }.",
        ),
        ({"secret": "s", "header": False}, "header is false, and nothing else is asked for: mail gets no proof."),
    ],
)
def test_wrong_options(options: dict[str, Any], problem: str) -> None:
    """Each is named, `--validate` fails, and mail is relayed unsigned."""
    message = {"sender": "b@example.com", "recipients": [JO], "header": header()}
    with Node() as node:
        assert node.do("sign_problems", options=options).result == [problem]
        node.do("setup_sign", options=options)
        answer = node.do("sign", message=message)
        assert answer.result == message
        assert answer.logged == [f"sidecar: a message is relayed unsigned: {problem}"]
