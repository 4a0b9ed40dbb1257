"""`store = "hashed"`: keyed hashes instead of addresses.

Owns the key, a file beside the database that only its owner can read. Without the key, the database does not show
whether an address is in it.
"""

import hashlib
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.journal import sync_directory

_KEY_SIZE: Final = 32
# 128 bits: of ten million addresses, two have the same hash with a chance of one in 10^24.
_DIGEST_SIZE: Final = 16


class AddressHash:
    """A key. Call it with an address in normal form: the hash has 32 hexadecimal digits."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def of(cls, settings: SuppressionSettings) -> Self:
        """Read the key of a list; make one if it has none. Raise OSError."""
        path = Path(f"{settings.database}.key")
        if not path.exists():
            with tempfile.NamedTemporaryFile(dir=path.parent) as draft:  # of mode 0600
                draft.write(secrets.token_bytes(_KEY_SIZE))
                draft.flush()
                os.fsync(draft.fileno())
                with suppress(FileExistsError):  # another process was faster
                    os.link(draft.name, path)
            sync_directory(path.parent)
        key = path.read_bytes()
        if len(key) != _KEY_SIZE:
            raise OSError(0, f"it has {len(key)} bytes instead of {_KEY_SIZE}", str(path))
        return cls(key)

    def __call__(self, address: str) -> str:
        """Return the hash of an address."""
        return hashlib.blake2b(address.encode(), key=self._key, digest_size=_DIGEST_SIZE).hexdigest()


def form_of(settings: SuppressionSettings, address_hash: AddressHash | None) -> str:
    """Return how a database of these settings has its addresses: another key is another form."""
    return settings.store if address_hash is None else f"{settings.store} {address_hash('')}"
