"""`store = "hashed"`: keyed hashes instead of addresses.

Owns the key, a file beside the database that only its owner can read. Without the key, the database does not show
whether an address is in it.
"""

import hashlib
import secrets
from pathlib import Path
from typing import Final, Self

from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.journal import create_file

PLAIN: Final = "plain"
"""The form of a database with the addresses themselves."""
_KEY_SIZE: Final = 32
# 128 bits: of ten million addresses, two have the same hash with a chance of one in 10^24.
_DIGEST_SIZE: Final = 16


class AddressHash:
    """A key. Call it with an address in normal form: the hash has 32 hexadecimal digits."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def of(cls, settings: SuppressionSettings) -> Self | None:
        """Read the key of a list; None if the list has plain addresses. Raise ValueError with one sentence."""
        if settings.store == "plain":
            return None
        path = _key_file(settings)
        try:
            key = path.read_bytes()
        except FileNotFoundError:
            raise ValueError(f"its key, {path}, is missing") from None
        except OSError as error:
            raise ValueError(f"its key, {path}, cannot be read: {error.strerror}") from error
        if len(key) != _KEY_SIZE:
            raise ValueError(f"its key, {path}, has {len(key)} bytes instead of {_KEY_SIZE}")
        return cls(key)

    def __call__(self, address: str) -> str:
        """Return the hash of an address."""
        return hashlib.blake2b(address.encode(), key=self._key, digest_size=_DIGEST_SIZE).hexdigest()


def make_key(settings: SuppressionSettings) -> None:
    """Make the key of a new list, if it needs one and has none. Raise OSError."""
    path = _key_file(settings)
    if settings.store != "plain" and not path.exists():
        create_file(path, secrets.token_bytes(_KEY_SIZE))


def _key_file(settings: SuppressionSettings) -> Path:
    return Path(f"{settings.database}.key")


def form_of(address_hash: AddressHash | None) -> str:
    """Return how a database has its addresses: another key is another form."""
    return PLAIN if address_hash is None else f"hashed {address_hash('')}"
