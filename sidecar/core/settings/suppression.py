"""The section [suppression]: the suppression list, when reports put an address on it, and what relay hosts get for one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

from sidecar.core.names import most_specific
from sidecar.core.settings.values import Where

IGNORED_TYPES = ("not-spam", "auth-failure", "dmarc")
"""Feedback types that are no complaint (RFC 6430, RFC 6591): they never suppress an address, whatever the rules say."""


Check = Literal["off", "log", "reject"]
"""What happens if a relay host names a recipient that is on the list."""


class SuppressionRule(Struct, frozen=True, kw_only=True):
    """When reports put an address on the suppression list, and for how long.

    `when` has bounce classes and feedback types. `count` different reports on `days` different days (UTC) within `within`
    seconds suppress the address for `expire` seconds after the last of them; 0 is for ever. Built-in rules have no `where`.
    """

    when: tuple[str, ...]
    count: int = 1
    days: int = 1
    within: int = 14 * 86400
    expire: int = 0
    where: Where | None = None


SUPPRESSION_RULES = (
    SuppressionRule(when=("abuse", "fraud", "virus")),
    SuppressionRule(when=("InvalidRecipient", "BadDomain"), expire=180 * 86400),
    SuppressionRule(when=("QuotaIssues", "InactiveMailbox"), count=5, days=3, expire=30 * 86400),
)
"""The rules without `[[suppression.rule]]`. Policy, spam, content and routing classes are in none of them."""


class SuppressionSettings(Struct, frozen=True, kw_only=True):
    """The suppression list: its database, its rules, and the least proof that a report needs to count.

    Of several rules with one class or type, the first counts. `trust` is the lowest `meta.verified` that counts; with "any" a
    report without proof counts, too. With `store` "hashed" the database has keyed hashes instead of addresses.

    `check` is what a relay host gets for a suppressed recipient, and `domain` the same by the domain of the envelope sender, or
    `*.` and a domain for all names below it. `places` has the place of each of them, that of `check` under `""`.
    `on_unreadable` is what happens to such recipients if the list cannot be read.
    """

    database: Path
    rule: tuple[SuppressionRule, ...] = SUPPRESSION_RULES
    trust: Literal["any", "message", "recipient"] = "any"
    store: Literal["plain", "hashed"] = "plain"
    check: Check = "off"
    domain: Mapping[str, Check] = {}
    places: Mapping[str, Where] = {}
    on_unreadable: Literal["accept", "tempfail"] = "accept"

    @property
    def checks(self) -> bool:
        """Whether some recipients are checked."""
        return any(one != "off" for one in (self.check, *self.domain.values()))

    def check_of(self, domain: str) -> tuple[Check, Where | None]:
        """Return the check for mail of a sender domain in normal form, and where it was set."""
        name = most_specific(self.domain, domain) if self.domain else None
        return (self.check, self.places.get("")) if name is None else (self.domain[name], self.places.get(name))
