"""Keys that prove that a report is about our mail, as `config` reads them and `core/proof` uses them."""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

Algorithm = Literal["rsa-sha256", "ed25519-sha256"]

DAY = 86400


class Secret(Struct, frozen=True, kw_only=True):
    """A secret for MACs. `id` is in each token: two characters that are derived from the key, and are no secret."""

    key: bytes
    id: str

    def __repr__(self) -> str:
        """Return a text without the key: values appear in logs."""
        return f"Secret(id={self.id!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Return the same for rich, which ignores `__repr__`."""
        return [("id", self.id)]


class PublicKey(Struct, frozen=True, kw_only=True):
    """A DKIM key of ours, as DER. `strict`: the domain of `i=` must be `domain` itself (`t=s` in the record)."""

    selector: str
    domain: str
    algorithm: Algorithm
    der: bytes
    strict: bool = False


class Keys(Struct, frozen=True, kw_only=True):
    """What proofs are checked with. The first secret signs, all of them verify. DKIM keys are by selector and domain.

    `maximum_age` is in seconds. With `batv`, tokens of BATV hold, too. `authserv_ids` names the hosts whose
    Authentication-Results count, in lower case.
    """

    secrets: tuple[Secret, ...] = ()
    dkim: Mapping[tuple[str, str], PublicKey] = {}
    authserv_ids: tuple[str, ...] = ()
    maximum_age: int = 30 * DAY
    batv: bool = True
