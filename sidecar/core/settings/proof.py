"""The sections [verify] and [sign]: what proves that a report is about our mail, and the proofs that outbound mail gets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

from sidecar.core.names import most_specific
from sidecar.core.settings.keys import Keys
from sidecar.core.settings.values import Where

Unverified = Literal["accept", "quarantine", "reject"]
"""What happens to a report that proves nothing about our mail."""


class VerifyRule(Struct, frozen=True, kw_only=True):
    """What a recipient domain requires of reports. `requires_token`: each recipient must have a valid address token.

    `places` has the place of each key that is set, by its name, and under `""` that of the domain's table.
    """

    unverified: Unverified = "accept"
    requires_token: bool = False
    places: Mapping[str, Where] = {}


class VerifySettings(Keys, frozen=True, kw_only=True):
    """The section [verify]: the keys that reports are verified with, and what each recipient domain requires.

    `secret_files` and `dkim_keys` are where the keys came from. `domains` has the rules by domain, or `*.` and a domain for all
    names below it; a rule has the values of `rule` where its own table sets none.
    """

    secret_files: tuple[Path, ...] = ()
    dkim_keys: Path | None = None
    rule: VerifyRule = VerifyRule()
    domains: Mapping[str, VerifyRule] = {}

    def rule_of(self, domain: str) -> VerifyRule:
        """Return the rule for a recipient domain in normal form: its own, or that of its nearest parent with `*.`."""
        name = most_specific(self.domains, domain) if self.domains else None
        return self.rule if name is None else self.domains[name]


class SignSettings(Struct, frozen=True, kw_only=True):
    """The section [sign]: the proofs that the milter adds to outbound mail, with the first secret of [verify].

    `header`: the trace header. `address`: a token in the envelope sender. `cfbl_address` is where complaints are to be sent
    (RFC 9477); None adds no field. `domains` are the sender domains whose mail is signed, or `*.` and a domain for all names
    below it; empty means all.
    """

    header: bool = True
    address: bool = False
    cfbl_address: str | None = None
    domains: tuple[str, ...] = ()
