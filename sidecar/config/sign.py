"""The section [sign]: the proofs that outbound mail gets.

Owns its keys. Never reads a secret.
"""

from typing import Final

from sidecar.config.readers import flag, list_of, text, wrong
from sidecar.config.tables import Table
from sidecar.core.names import NO_DOMAIN, normal_domain
from sidecar.core.policy.address import domain_of, normal_address
from sidecar.core.settings.proof import SignSettings, VerifySettings
from sidecar.core.settings.values import Where
from sidecar.core.text import quoted, shown

_WILDCARD: Final = "*."
_READABLE: Final = text("a mail address")


def read_sign(table: Table, where: Where, verify: VerifySettings | None) -> SignSettings:
    """Read the section, which is at `where`. The secrets are those of [verify]."""
    sign = SignSettings(**table.only(READERS))
    if verify is None or not verify.secret_files:
        text = "[sign] has no secret: it signs with the first one of secret_files below [verify]."
        fix = 'Make one with `sidecar keys make FILE`, and write secret_files = ["FILE"] below [verify].'
        table.findings.error("missing_key", where, text, fix)
    if not (sign.header or sign.address or "cfbl_address" in table.values):
        table.fault("missing_key", "header", "[sign] adds no proof to mail.", "Write header = true, or remove the section.")
    if sign.address and "domains" not in table.values:
        text = "With address = true the envelope sender of all outbound mail would change, also in domains of others."
        fix = 'Write domains = ["example.com"] below [sign], with the sender domains whose bounces come back to you.'
        table.fault("missing_key", "address", text, fix)
    return sign


def _domains(value: object) -> tuple[str, ...]:
    if not (domains := _DOMAINS(value)):
        raise wrong(
            "An empty list means that no mail is signed.", "Write a domain, or remove domains to sign all outbound mail."
        )
    return domains


def _domain(value: object) -> str:
    """Read the domain of senders, or `*.` and a domain for all names below it. Return its normal form."""
    name = value if isinstance(value, str) else ""
    wildcard = _WILDCARD if name.startswith(_WILDCARD) else ""
    normal = normal_domain(name.removeprefix(wildcard))
    if normal is None or "*" in normal:
        raise wrong(f"{shown(value)} is not a domain.", 'Write "example.com", or "*.example.com" for all names below it.')
    return wildcard + normal


def _address(value: object) -> str:
    address = _READABLE(value)
    # The field is ASCII, and ends at a semicolon.
    if not address.isascii() or set(address) & set(" ;,<>()") or domain_of(address) == NO_DOMAIN:
        raise wrong(f"{quoted(address)} is not a mail address.", 'Write one such as "fbl@example.com".')
    return normal_address(address)


_DOMAINS: Final = list_of(_domain, '["example.com"]')

READERS: Final = {"header": flag, "address": flag, "cfbl_address": _address, "domains": _domains}
"""The keys of the section, with their readers."""
