"""Verified reports over real SMTP: what a Postfix answers to true and forged ones, and a change of the secrets."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.core.proof import address
from tests.core.proof.making import MAIL, SENDER, bounce, dkim_field, ed_key, pem, secret
from tests.mta.client import EXTERNAL, Peer
from tests.mta.house import House, house

pytestmark = pytest.mark.mta

SECRET = "the-secret-of-the-tests-is-no-secret"  # noqa: S105 - of tests
NEW_SECRET = "a-later-secret-of-the-tests-is-no-secret"  # noqa: S105 - as above
DOMAINS = """\
["bounce.sender.example"]
log_oob = "LogThenDrop"
["proved.example"]
log_oob = "LogThenDrop"
"""
SETTINGS = """\
[verify]
secret_files = ["{folder}/secret"]
dkim_keys = "{folder}/keys"
[verify.domain."bounce.sender.example"]
address = "required"
[verify.domain."proved.example"]
unverified = "reject"
"""
REQUIRED = "550 5.7.1 this address accepts only bounces of mail sent from here"
REFUSED = "550 5.7.1 this report does not prove that it is about mail sent from here"
TAKEN = "250 2.0.0 Ok"
JO = "jo@remote.example"


def write_secret(folder: Path, text: str) -> None:
    """Write the secret, which only root can read."""
    (folder / "secret").write_text(text)
    (folder / "secret").chmod(0o600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the keys."""
    made = tmp_path_factory.mktemp("keys")
    write_secret(made, SECRET)
    (made / "keys").mkdir()
    (made / "keys/ed._domainkey.sender.example").write_bytes(pem(ed_key()))
    return made


@pytest.fixture(scope="module")
def home(folder: Path) -> Iterator[House]:
    with house(domains=DOMAINS, settings=SETTINGS.format(folder=folder)) as built:
        yield built


def token(line: str = SECRET, days: float = 0) -> str:
    return address.tagged(SENDER, secret(line.encode()), time.time() - days * 86400)


@pytest.mark.parametrize(
    ("recipient", "answer"),
    [
        (SENDER, REQUIRED),
        (token(), TAKEN),
        (token().upper(), TAKEN),
        (token(days=60), REQUIRED),
        (token(NEW_SECRET), REQUIRED),
        (token().replace("news+", "else+"), REQUIRED),
    ],
    # Tokens are of today: each process of a test run must have the same names.
    ids=["none", "valid", "capitals", "expired", "another secret", "another address"],
)
@pytest.mark.parametrize("peer", [EXTERNAL, Peer(address="127.0.0.1:4444")], ids=["external", "relay host"])
def test_required_address(home: House, recipient: str, answer: str, peer: Peer) -> None:
    """Only a recipient with a valid token is accepted at RCPT, whoever sends; the record has the address as it came."""
    outcome = home.offer("", [recipient], bounce(MAIL, JO), peer=peer)
    assert str(outcome.last).startswith(answer)
    local, _, domain = recipient.rpartition("@")
    shown = f"{local}@{domain.lower()}"
    if answer == REQUIRED:
        assert outcome.written() == [("Rejection", 550, shown)]
        assert outcome.records[0]["response"]["command"] == f"RCPT TO:<{recipient}>"
    else:
        assert [record["type"] for record in outcome.records] == ["Reception", "OOB"]
        assert (outcome.records[1]["sender"], outcome.records[1]["meta"]["verified"]) == (shown, "message")
    assert outcome.delivered == {}


def test_reports(home: House) -> None:
    """A forged report is rejected at its end, and a report with our signature is accepted."""
    signed = dkim_field(MAIL, "ed", t=str(int(time.time()))) + MAIL
    forged = home.offer("", ["news@proved.example"], bounce(MAIL, JO))
    assert str(forged.last) == REFUSED
    assert (forged.records[0]["type"], forged.records[0]["meta"]["verified"]) == ("Rejection", "none")
    true = home.offer("", ["news@proved.example"], bounce(signed, JO))
    assert str(true.last).startswith(TAKEN)
    assert (true.records[1]["meta"]["verified"], true.records[1]["meta"]["verified_by"]) == ("recipient", ["dkim"])
    other = home.offer("", ["news@proved.example"], bounce(signed, "else@remote.example"))
    assert other.records[1]["meta"]["verified"] == "message"


def test_new_secret(home: House, folder: Path) -> None:
    """A reload uses the new secret at once; an unreadable one keeps the old. No secret is in the log or the journal."""
    old, new = token(), token(NEW_SECRET)

    def answers() -> list[int]:
        return [home.offer("", [one], bounce(MAIL, JO)).last.code for one in (old, new)]

    assert answers() == [250, 550]
    (folder / "secret").chmod(0o644)
    assert "exposed_secret" in home.sidecar.reload()
    assert answers() == [250, 550]
    write_secret(folder, NEW_SECRET)
    home.sidecar.reload()
    assert answers() == [550, 250]
    for path in home.sidecar.directory.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
            assert NEW_SECRET.encode() not in path.read_bytes(), path
