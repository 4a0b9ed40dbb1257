"""[sign] with real MTAs: what they add and change, what their bounces prove, and the order of the sidecar and OpenDKIM."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from time import time

import pytest
from msgspec import Struct

from sidecar.core.proof.address import check_address
from sidecar.core.proof.dkim.check import check_dkim
from sidecar.core.proof.dkim.keys import read_key
from sidecar.core.proof.head import Returned, fields, value_of
from sidecar.core.proof.secret import read_secret
from sidecar.core.proof.trace import NAME
from sidecar.core.proof.values import Case
from sidecar.core.proof.verify import verify
from sidecar.core.reports.original import head_of
from sidecar.core.reports.reading import read
from sidecar.core.settings.keys import Keys, PublicKey, Secret
from tests.commands.doctor.test_real_postfix import doctor, settings_of
from tests.mta.client import Answer, Connection, Peer
from tests.mta.make_signed_reports import keys, opendkim
from tests.mta.places import private_directory
from tests.mta.postfix import HOST, Postfix, table
from tests.mta.processes import wait_until
from tests.mta.sendmail import Sendmail
from tests.mta.sidecar import Sidecar

pytestmark = pytest.mark.mta

LINE = b"the-secret-of-the-tests-is-no-secret"
SENDER, JO, GONE = "news@sender.example", "jo@remote.example", "gone@error.example"
RELAY_HOST = Peer(address="127.0.0.1:4444")
MESSAGE = (
    b"From: News <news@sender.example>\r\nTo: jo@remote.example\r\nSubject: The news\r\n"
    b"Date: Mon, 30 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@sender.example>\r\n\r\nNothing happened.\r\n"
)
SIGN = """\
[verify]
secret_files = ["secret"]
[sign]
address = true
cfbl_address = "fbl@sender.example"
domains = ["sender.example"]
[verify.domain."sender.example"]
address = "required"
"""
DOMAINS = '["sender.example"]\nlog_oob = "LogThenDrop"\n["inbound.example"]\nrelay_to = true\n'
TAGGED = re.compile(r"news\+[a-z2-7]{2}[0-9]{5}[a-z2-7]{16}@sender\.example")
SIGNED_FIELDS = "SignHeaders *,+CFBL-Address,+CFBL-Feedback-ID\n"


def secret() -> Secret:
    made = read_secret(LINE)
    assert isinstance(made, Secret)
    return made


@contextmanager
def signing_sidecar(directory: Path, engine: str) -> Iterator[Sidecar]:
    """A sidecar that signs; its secret is in the folder above, which exists before it."""
    (directory / "secret").write_bytes(LINE)
    (directory / "secret").chmod(0o600)
    settings = SIGN.replace('"secret"', f'"{directory}/secret"')
    with Sidecar(directory / "sidecar", domains=DOMAINS, settings=settings, engine=engine) as sidecar:
        yield sidecar


class House(Struct, frozen=True, kw_only=True):
    """A Postfix and a sidecar that signs."""

    sidecar: Sidecar
    postfix: Postfix

    def sent(self, *recipients: str, sender: str = SENDER, peer: Peer = RELAY_HOST, parameters: str = "") -> dict[str, Message]:
        """Send a message, and return what was delivered, by recipient."""
        with Connection(self.postfix.port, peer) as connection:
            answers = connection.send(sender, recipients, MESSAGE, parameters=parameters)
            assert answers.last.code == 250, answers
        return {recipient: BytesParser().parsebytes(message) for recipient, message in self.postfix.delivered().items()}


@pytest.fixture(scope="module", params=["direct", "libmilter"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    settings = {"transport_maps": table({"error.example": "failing"})}
    services = ["failing unix - n n - - pipe user=nobody argv=/bin/sh -c {echo No such user here; exit 67}"]
    with (
        private_directory() as directory,
        signing_sidecar(directory, request.param) as sidecar,
        Postfix(directory / "postfix", milter=sidecar.socket, settings=settings, services=services) as postfix,
    ):
        yield House(sidecar=sidecar, postfix=postfix)


def test_postfix(house: House) -> None:
    """Postfix adds the fields above its own, and changes the envelope sender."""
    message = house.sent(JO)[JO]
    tagged = str(message["Return-Path"]).strip("<>")
    assert TAGGED.fullmatch(tagged)
    names = [name for name in message if name not in {"Return-Path", "X-Original-To", "Delivered-To"}]
    assert names[:4] == ["CFBL-Feedback-ID", "CFBL-Address", NAME, "Received"]
    assert message["CFBL-Feedback-ID"] == message[NAME]
    assert message["CFBL-Address"] == "fbl@sender.example; report=arf"
    (record,) = house.sidecar.records()
    assert (record["type"], record["sender"], record["size"]) == ("Reception", SENDER, len(MESSAGE))
    assert "decided" not in record["meta"]


def test_mail_that_stays_as_it_is(house: House) -> None:
    """The null sender, senders of other domains, a sender with a token, and mail of external hosts."""
    tagged = str(house.sent(JO)[JO]["Return-Path"]).strip("<>")
    external = Peer()
    for sender, peer, recipient in [
        ("", RELAY_HOST, JO),
        ("x@other.example", RELAY_HOST, JO),
        (tagged, RELAY_HOST, JO),
        (SENDER, external, "x@inbound.example"),
    ]:
        message = house.sent(recipient, sender=sender, peer=peer)[recipient]
        assert message["Return-Path"] == f"<{sender}>"
        assert (NAME in message) == (sender == tagged)


@pytest.mark.parametrize(("parameters", "whole"), [("", True), ("RET=HDRS ENVID=week-17", False)])
def test_a_bounce_of_postfix_proves_its_recipient(house: House, parameters: str, whole: bool) -> None:
    """It goes to the sender with the token, has both proofs, and the DSN parameters of the client stay."""
    delivered = house.sent(GONE, parameters=parameters)
    ((recipient, bounce),) = delivered.items()
    assert TAGGED.fullmatch(recipient)
    text = bounce.as_bytes()
    assert (b"Nothing happened." in text, b"Original-Envelope-Id: week-17" in text) == (whole, not whole)
    reading = read(text, strict=False, text=True, null_sender=True)
    found = verify(reading, recipients=[recipient], report=text, keys=Keys(secrets=(secret(),)), now=time())[recipient]
    proof = found.proof(GONE)
    assert (proof.verified, proof.verified_by) == ("recipient", ("header", "address")), found.why
    # The sidecar accepts the bounce from any host, and no other one.
    house.sidecar.records()
    content = bounce.as_bytes().replace(b"\n", b"\r\n")
    with Connection(house.postfix.port, Peer()) as connection:
        assert connection.send("", [SENDER], content).last.code == 550
        assert connection.send("", [recipient], content).last.code == 250
    refused, _, oob = house.sidecar.records()
    assert refused["response"]["content"] == "this address accepts only bounces of mail sent from here"
    assert (oob["recipient"], oob["meta"]["verified"], oob["meta"]["verified_by"]) == (GONE, "recipient", ["header", "address"])


def test_sendmail() -> None:
    """Sendmail adds the fields above its own, and changes the envelope sender."""
    lines = "FEATURE(`promiscuous_relay')"
    peer = Peer(address="127.0.0.1:4444", listener="127.0.0.1:2526")
    with (
        private_directory(below="/run") as directory,
        signing_sidecar(directory, "direct") as sidecar,
        Sendmail(directory / "sendmail", milter=sidecar.socket, lines=lines) as sendmail,
    ):
        with sendmail.connect(peer) as connection:
            assert connection.send(SENDER, [JO], MESSAGE).last.code == 250
        (queued,) = sendmail.queued()
    assert TAGGED.fullmatch(queued.sender.strip("<>"))
    assert check_address(queued.sender.strip("<>"), Keys(secrets=(secret(),)), time()).holds
    found = fields(head_of(queued.message))
    names = [b"cfbl-feedback-id", b"cfbl-address", NAME.lower().encode(), b"received"]
    assert [name for name in found if name != b"return-path"][:4] == names
    assert len({value_of(found[name][0]).strip() for name in (names[0], names[2])}) == 1


@pytest.mark.parametrize(
    ("first", "lines", "holds"),
    [("sidecar", "", True), ("opendkim", "", True), ("opendkim", "OversignHeaders From,CFBL-Address\n", False)],
)
def test_the_order_of_opendkim(first: str, lines: str, holds: bool) -> None:
    """A signature covers the new fields only if the sidecar is first, and the doctor says so. It holds unless oversigned."""
    with private_directory() as directory:
        ((name, pem), *_) = keys(directory).items()
        key = read_key(name, pem.encode())
        assert isinstance(key, PublicKey)
        with (
            signing_sidecar(directory, "direct") as sidecar,
            opendkim(directory, "relaxed/simple", lines=SIGNED_FIELDS + lines) as port,
        ):
            milters = [sidecar.socket, f"inet:{HOST}:{port}"]
            order = milters if first == "sidecar" else milters[::-1]
            with Postfix(directory / "postfix", milter=" ".join(order)) as postfix:
                wait_until(lambda: _accepted(postfix).code == 250, "OpenDKIM answers")
                message = postfix.delivered()[JO]
                found_by_doctor = [line for line in doctor(sidecar, settings_of(postfix)) if line == "warning: smtpd_milters"]
    assert len(found_by_doctor) == (first == "opendkim")
    written = Returned(message, fields(head_of(message)))
    found = check_dkim(written, Case(keys=Keys(dkim={(key.selector, key.domain): key}), now=time(), reported=(JO,)))
    assert (found.holds, found.recipients, found.body) == ((True, (JO,), "whole") if holds else (False, (), None)), found.why
    if not holds:
        return
    (signature,) = written.fields[b"dkim-signature"]
    signed = re.search(rb"\bh=([^;]+)", signature)
    assert signed is not None
    names = signed[1].lower().translate(None, b" \t\r\n").split(b":")
    assert ({b"cfbl-address", b"cfbl-feedback-id"} <= {*names}) == (first == "sidecar"), names


def _accepted(postfix: Postfix) -> Answer:
    with Connection(postfix.port, RELAY_HOST) as connection:
        return connection.send(SENDER, [JO], MESSAGE).last
