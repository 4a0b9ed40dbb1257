"""The section [suppression]: the suppression list, and when reports put an address on it."""

from pathlib import Path
from typing import Literal

from msgspec import Struct

from sidecar.core.settings.values import Where

IGNORED_TYPES = ("not-spam", "auth-failure", "dmarc")
"""Feedback types that are no complaint (RFC 6430, RFC 6591): they never suppress an address, whatever the rules say."""


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
    """

    database: Path
    rule: tuple[SuppressionRule, ...] = SUPPRESSION_RULES
    trust: Literal["any", "message", "recipient"] = "any"
    store: Literal["plain", "hashed"] = "plain"
