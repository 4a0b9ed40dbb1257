"""Files of public keys: each form of an RSA and an Ed25519 key, and what is wrong with other files."""

import base64
import pickle

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as ec_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.proof.dkim.keys import read_key
from sidecar.core.settings.keys import PublicKey
from tests.core.proof.making import ed_key, pem, public_key, rsa_key

NAME = "s1._domainkey.example.com"
RSA = base64.b64encode(rsa_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
ED = base64.b64encode(ed_key().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
PRIVATE = ed_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
EC = ec_key(SECP256R1()).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
# openssl genrsa 768; cryptography makes none so small.
SMALL = (
    b"p=MHwwDQYJKoZIhvcNAQEBBQADawAwaAJhALnE2jr5XTrt1Yrw/o5cbKJolWu/Efg9kQHG6OWtj+0FWHRHCfbABMxlVCDxEZUAlkGj6/lmdfe7qb84"
    b"N7rwvL0mKoF5j1UteeuMg4+PJNbU4zszJQPE+02MomaQcgIhgQIDAQAB"
)


@pytest.mark.parametrize(
    ("content", "algorithm"),
    [
        (pem(rsa_key()), "rsa-sha256"),
        (pem(ed_key()), "ed25519-sha256"),
        (f"v=DKIM1; k=rsa; p={RSA}", "rsa-sha256"),
        (f"p={RSA}", "rsa-sha256"),
        (f" v=DKIM1 ; t=y ; h=sha1:sha256; s=*; n=a note; p={RSA[:70]}\n\t{RSA[70:]} ;\n", "rsa-sha256"),
        (f"v=DKIM1; k=ed25519; p={ED}", "ed25519-sha256"),
        (f's1._domainkey IN TXT ( "v=DKIM1; k=rsa; "\n\t"p={RSA[:80]}"\n  "{RSA[80:]}" ) ; a comment\n', "rsa-sha256"),
    ],
)
def test_key(content: bytes | str, algorithm: str) -> None:
    """PEM, the text of a record, and the zone file lines that opendkim-genkey and rspamadm write."""
    found = public_key(NAME, content if isinstance(content, bytes) else content.encode())
    assert (found.selector, found.domain, found.algorithm, found.strict) == ("s1", "example.com", algorithm, False)
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301 - our own


@pytest.mark.parametrize(
    ("name", "selector", "domain"),
    [
        ("S1._domainkey.Example.COM.pem", "s1", "example.com"),
        ("a.b._domainkey.example.com.txt", "a.b", "example.com"),
        ("s1._domainkey.example.pub", "s1", "example.pub"),
        ("s_1-x._domainkey.xn--grn-joa.example", "s_1-x", "xn--grn-joa.example"),
    ],
)
def test_name(name: str, selector: str, domain: str) -> None:
    found = public_key(name, pem(ed_key()))
    assert (found.selector, found.domain) == (selector, domain)


def test_strict() -> None:
    assert public_key(NAME, f"v=DKIM1; t=y:s; p={RSA}".encode()).strict


@pytest.mark.parametrize(
    "name",
    [
        "",
        "example.com",
        "s1._domainkey",
        "s1._domainkey.",
        "._domainkey.example.com",
        "a b._domainkey.a.b",
        "s._domainkey.a..b",
        "s._domainkey.*.example.com",
    ],
)
def test_bad_name(name: str) -> None:
    assert "its name is not SELECTOR._domainkey.DOMAIN" in str(read_key(name, pem(ed_key())))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "neither a public key in PEM nor the text"),
        (b"v=DKIM1; k=rsa", "neither a public key in PEM nor the text"),
        (f"p={RSA}; p={RSA}".encode(), "neither a public key in PEM nor the text"),
        (f"v=DKIM2; p={RSA}".encode(), "its v= is 'DKIM2'"),
        (b"v=DKIM1; p=", "the key was revoked"),
        (f"s=tlsrpt; p={RSA}".encode(), "is not for mail"),
        (f"h=sha1; p={RSA}".encode(), "without sha256"),
        (b"p=!!!", "its p= is not base64"),
        (b"p=AAAA", "its p= is no public key of the kind in its k="),
        (f"k=ed25519; p={RSA}".encode(), "its p= is no public key of the kind in its k="),
        (f"p={ED}".encode(), "its p= is no public key of the kind in its k="),
        (PRIVATE, "it is a private key; write the public key: openssl pkey"),
        (EC, "neither an RSA key nor an Ed25519 key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "it is no public key in PEM"),
        (b"-----BEGIN", "it is no public key in PEM"),
        (b"p=" + b"A" * 20_000, "it has more than 16384 bytes"),
        (SMALL, "its RSA key has 768 bits; DKIM keys here have 1024 to 4096"),
        (pem(rsa_key()).replace(b"PUBLIC KEY", b"CERTIFICATE"), "it is no public key in PEM"),
    ],
)
def test_bad_key(content: bytes, why: str) -> None:
    """Each fault of a file is named."""
    found = read_key(NAME, content)
    assert isinstance(found, str)
    assert why in found


BEGINNINGS = [pem(rsa_key())[:150], f"v=DKIM1; p={RSA[:60]}".encode()]


@given(st.binary(max_size=400) | st.builds(bytes.__add__, st.sampled_from(BEGINNINGS), st.binary(max_size=80)))
def test_any_file(content: bytes) -> None:
    """No content raises an exception."""
    found = read_key(NAME, content)
    assert isinstance(found, PublicKey) or found.isprintable()
