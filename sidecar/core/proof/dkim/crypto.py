"""RSA and Ed25519 signatures, and public keys as DER (SubjectPublicKeyInfo).

The only module of core that loads `cryptography`, which takes 12 MB and 60 ms: load it only where there are DKIM keys.
"""

import hashlib
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from sidecar.core.settings.keys import Algorithm

RSA_MINIMUM = 1024
"""Bits (RFC 8301 section 3.2)."""
RSA_LIMIT = 4096
"""Bits: a check takes 70 us; with more it would take longer than reading the report."""

# Keys that are ready for use, at some 2 kB each; making one ready takes as long as a check.
_KEPT = 1024
_PADDING, _HASH = PKCS1v15(), SHA256()


def from_pem(content: bytes) -> tuple[Algorithm, bytes] | str:
    """Return the algorithm and the DER of a key in PEM, or what is wrong with it."""
    try:
        return _usable(load_pem_public_key(content))
    except (ValueError, UnsupportedAlgorithm):
        return "it is no public key in PEM"


def from_record(kind: bytes, data: bytes) -> tuple[Algorithm, bytes] | str:
    """Return the algorithm and the DER of the key in `p=` of a DKIM record (RFC 6376 section 3.6.1, RFC 8463 section 4.2)."""
    try:
        return _usable(Ed25519PublicKey.from_public_bytes(data) if kind == b"ed25519" else load_der_public_key(data))
    except (ValueError, UnsupportedAlgorithm):
        return "its p= is no public key of the kind in its k="


def verifies(der: bytes, signature: bytes, signed: bytes) -> bool:
    """Return True if a signature belongs to the hash input `signed` and a key of `from_pem` or `from_record`."""
    key = _ready(der)
    try:
        if isinstance(key, RSAPublicKey):
            key.verify(signature, signed, _PADDING, _HASH)
        else:
            key.verify(signature, hashlib.sha256(signed).digest())  # RFC 8463 section 3
    except InvalidSignature:
        return False
    return True


def _usable(key: object) -> tuple[Algorithm, bytes] | str:
    if isinstance(key, RSAPublicKey) and not RSA_MINIMUM <= key.key_size <= RSA_LIMIT:
        return f"its RSA key has {key.key_size} bits; DKIM keys here have {RSA_MINIMUM} to {RSA_LIMIT}"
    if not isinstance(key, RSAPublicKey | Ed25519PublicKey):
        return "it is neither an RSA key nor an Ed25519 key"
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return ("rsa-sha256" if isinstance(key, RSAPublicKey) else "ed25519-sha256"), der


@lru_cache(maxsize=_KEPT)
def _ready(der: bytes) -> RSAPublicKey | Ed25519PublicKey:
    key = load_der_public_key(der)
    if not isinstance(key, RSAPublicKey | Ed25519PublicKey):
        raise TypeError(type(key))  # pragma: no cover - `_usable` makes no other
    return key
