"""The address token and BATV's: which addresses get one, which tokens hold, and what they prove."""

import re

import pytest
from msgspec.structs import replace

from sidecar.core.proof import address
from sidecar.core.proof.address import check_address
from sidecar.core.proof.values import by_name
from sidecar.core.settings.keys import Keys
from tests.core.proof.making import DAY, NOW, keys, prvs, secret

OTHER = secret(b"another-secret-of-the-tests-that-is-none")


def tagged(text: str = "bounce@send.example", now: float = NOW) -> str:
    return address.tagged(text, secret(), now)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is the null sender"),
        ("postmaster", "not a plain ASCII local part"),
        ("a b@send.example", "not a plain ASCII local part"),
        ('"a.b"@send.example', "not a plain ASCII local part"),
        ("ü@send.example", "not a plain ASCII local part"),
        ("a..b@send.example", "not a plain ASCII local part"),
        ("a@b@send.example", "not a plain ASCII local part"),
        ("@relay.example:a@send.example", "not a plain ASCII local part"),
        ("a@" + "x" * 320, "not a plain ASCII local part"),
        ("bounce+bv20787aaaaaaaaaaaaaaaa@send.example", "it has a token"),
        ("prvs=0788abcdef=bounce@send.example", "it has a token"),
        ("SRS0=HHH=TT=other.example=user@send.example", "it is an SRS address"),
        ("x" * 41 + "@send.example", "its local part has 41 octets; with more than 40"),
    ],
)
def test_no_token(text: str, why: str) -> None:
    """An address that cannot have a token stays as it is."""
    assert why in (address.obstacle(text) or "")
    assert tagged(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "bounce@send.example",
        "x" * 40 + "@send.example",
        "b+jo=remote.example@send.example",
        "B.o-U_n{c}e@Send.Example.",
        "a@[192.0.2.1]",
    ],
)
def test_token(text: str) -> None:
    """A token holds in any case, and fits into the 64 octets of a local part; without it, the address is the same."""
    made = tagged(text)
    assert address.obstacle(text) is None
    assert re.fullmatch(r".+\+[a-z2-7]{2}[0-9]{5}[a-z2-7]{16}@.+", made)
    assert len(made.rpartition("@")[0]) <= 64
    assert address.untagged(made) == text
    for spelled in (made, made.lower(), made.upper()):
        found = check_address(spelled, keys(), NOW)
        assert found.holds, found.why
        assert found.identity == check_address(made, keys(), NOW).identity


def test_internationalised_domain() -> None:
    """A domain in U-labels and in A-labels is the same."""
    made = tagged("bounce@grün.example")
    assert check_address(made.replace("grün", "grün".encode("idna").decode()), keys(), NOW).holds


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda made: made.replace("bounce", "other"), "its MAC does not match"),
        (lambda made: made.replace("send", "else"), "its MAC does not match"),
        (lambda made: made.replace("send.", "x.send."), "its MAC does not match"),
        (lambda made: made.replace("20788", "20789"), "its MAC does not match"),
        (lambda made: made.replace("+", "+x+", 1), "its MAC does not match"),
        (lambda made: made[:-14] + ("b" if made[-14] == "a" else "a") + made[-13:], "its MAC does not match"),
        (lambda made: made.replace(f"+{secret().id}", "+zz"), "no secret has its key id 'zz'"),
        (lambda made: made.replace("+", "-"), "has no token"),
        (lambda made: made.replace("20788", "2078"), "has no token"),
        (lambda _: "bounce@send.example", "has no token"),
        (lambda _: "", "has no token"),
        (lambda _: "@", "has no token"),
        (lambda made: "x" * 10_000 + made, "has no token"),
        (lambda made: made.replace("20788", "２０７８８"), "has no token"),
        (lambda made: made.replace(f"+{secret().id}", "+ſK"), "has no token"),
    ],
)
def test_forged(change: object, why: str) -> None:
    """A token of another address, domain, day or key does not hold."""
    assert callable(change)
    found = check_address(change(tagged()), keys(), NOW)
    assert not found.holds
    assert why in found.why
    assert (found.identity, found.recipients) == ("", ())


def test_old_and_rotated() -> None:
    assert check_address(tagged(), keys(), NOW + 30 * DAY).holds
    assert "older than 30 days" in check_address(tagged(), keys(), NOW + 32 * DAY).why
    assert "in the future" in check_address(tagged(now=NOW + DAY), keys(), NOW).why
    assert check_address(tagged(), Keys(secrets=(OTHER, secret())), NOW).holds
    assert not check_address(tagged(), Keys(secrets=(OTHER,)), NOW).holds
    assert check_address(tagged(), Keys(), NOW).why == "there are no secrets"


@pytest.mark.parametrize(
    ("sender", "reported", "proved"),
    [
        ("b+jo=remote.example@send.example", "Jo@Remote.Example", True),
        ("b+x+jo=remote.example@send.example", "x+jo@remote.example", True),
        ("b+j=o=remote.example@send.example", "j=o@remote.example", True),
        # The mailboxes x+jo and x-jo can belong to others.
        ("b+x+jo=remote.example@send.example", "jo@remote.example", False),
        ("b-jo=remote.example@send.example", "jo@remote.example", False),
        ("b+jo=remote.example@send.example", "jo@else.example", False),
        ("b+jo@send.example", "jo", False),
        ("b@send.example", "", False),
        ("b@send.example", "@route.example:", False),
    ],
)
def test_verp(sender: str, reported: str, proved: bool) -> None:
    """A recipient that the signed address itself names is proved."""
    found = check_address(tagged(sender), keys(), NOW, by_name((reported,)))
    assert found.holds
    assert bool(found.recipients) == proved


def test_batv() -> None:
    """A BATV token holds until its day of expiry, for its address only, and proves no recipient."""
    made = prvs("bounce@send.example").replace("bounce", "Bounce")
    assert re.fullmatch(r"prvs=[0-9]795[0-9a-f]{6}=Bounce@send\.example", made)
    found = check_address(made.lower(), keys(), NOW, by_name(("jo@remote.example",)))
    assert (found.holds, found.recipients, found.domain) == (True, (), "send.example")
    assert "24 bits" in found.why
    assert address.untagged(made) == "Bounce@send.example"
    assert check_address(made, keys(), NOW + 7 * DAY).holds
    assert "has expired" in check_address(made, keys(), NOW + 8 * DAY).why
    assert "has expired" in check_address(made, keys(), NOW - 40 * DAY).why
    for forged in (made.replace("send", "else"), made.replace("Bounce", "other"), made.replace("795", "796")):
        assert "its MAC does not match" in check_address(forged, keys(), NOW).why
    assert not check_address(made, Keys(secrets=(OTHER,)), NOW).holds
    ignored = check_address(made, replace(keys(), batv=False), NOW)
    assert (ignored.result, "batv is false" in ignored.why) == ("absent", True)


def test_batv_spellings() -> None:
    """Programs sign the address as it is spelled, or in lower case."""
    spelled = "Bounce@Send.Example"
    assert check_address(prvs(spelled), keys(), NOW).holds
    assert check_address(prvs(spelled.lower()).replace(spelled.lower(), spelled), keys(), NOW).holds
    assert not check_address(prvs(spelled).lower(), keys(), NOW).holds
