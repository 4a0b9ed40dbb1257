"""Ed25519 keys and signatures of a fleet's policy (RFC 8032), in PEM files (RFC 8410)."""

from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from msgspec import Struct

from sidecar.config.fleet import policy_key
from sidecar.core.settings.fleet import PolicyKey


class SigningKey(Struct, frozen=True, kw_only=True):
    """A private key, and the id of its public key."""

    id: str
    private: Ed25519PrivateKey

    def sign(self, message: bytes) -> bytes:
        """Return the signature, 64 bytes."""
        return self.private.sign(message)


def make_pair() -> tuple[bytes, bytes]:
    """Return a new private key and its public key, as the content of two files."""
    private = Ed25519PrivateKey.generate()
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), _public_pem(private)


def read_private(path: Path) -> SigningKey | str:
    """Return the private key in a file, or what is wrong with its content. Raise OSError."""
    try:
        private = load_pem_private_key(path.read_bytes(), password=None)
    except TypeError:
        return "it has a passphrase"
    except (ValueError, UnsupportedAlgorithm):
        return "it is no private key in PEM form"
    if not isinstance(private, Ed25519PrivateKey):
        return "it is no Ed25519 key"
    return SigningKey(id=public_of(private).id, private=private)


def public_of(private: Ed25519PrivateKey) -> PolicyKey:
    """Return the public key as nodes read it."""
    found = policy_key(_public_pem(private))
    assert found is not None  # noqa: S101 - we have made it
    return found


def is_valid(keys: Iterable[PolicyKey], key_id: str, message: bytes, signature: bytes) -> bool:
    """Return True if one of the keys, with this id, has signed the message."""
    for key in keys:
        if key.id == key_id:
            try:
                Ed25519PublicKey.from_public_bytes(key.public).verify(signature, message)
            except InvalidSignature:
                continue
            return True
    return False


def _public_pem(private: Ed25519PrivateKey) -> bytes:
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
