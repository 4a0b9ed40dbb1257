"""Recipients that Postfix rejects before it asks the sidecar, and ordinary mail that the sidecar rejects.

Owns the findings about mailboxes, tables of recipients and probes. Bounces return to addresses that no table has (VERP).
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from sidecar.commands.doctor.findings import COMPARE, Found, some
from sidecar.commands.doctor.postfix.actions import RESTRICTIONS
from sidecar.commands.doctor.postfix.smtpd import OWN_DOMAINS, Smtpd
from sidecar.commands.doctor.postfix.tables import WholeDomains, table_entries, whole_domains
from sidecar.core.evaluate.changes import Draft, UnprovedError
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.evaluate.spelling import key_lines, set_values, table_lines
from sidecar.core.names import is_literal
from sidecar.core.open_domains import Pattern
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import ANY_LISTENER, LogMode
from sidecar.core.text import printable

# Lists of domains, in the order in which Postfix looks (ADDRESS_CLASS_README), and the tables of their recipients.
_TABLES = {
    "mydestination": "local_recipient_maps",
    "virtual_alias_domains": "virtual_alias_maps",
    "virtual_mailbox_domains": "virtual_mailbox_maps",
    "relay_domains": "relay_recipient_maps",
}
# A recipient in one of these is known in any list (smtpd_check.c).
_REWRITING = ("virtual_alias_maps", "recipient_canonical_maps", "canonical_maps")

# More domains than this are not written out.
_OPENED = 3


def closed_domains(smtpd: Smtpd) -> Iterator[Found]:
    """Find domains with mailboxes whose ordinary mail the sidecar rejects."""
    if not smtpd.serves_external_hosts:
        return
    for key in OWN_DOMAINS:
        listed = smtpd.domain_list(key)
        # The lists can also have host names, localhost and addresses, to which no external host writes.
        names = {name for name in listed.names if "." in name and "@" not in name and "localhost" not in name}
        known, domains = _known(smtpd, key), smtpd.domains
        names = {name for name in names if not (domains.accepts_mail(name) or (name in known and domains.reporter(name)))}
        closed = sorted(names - {smtpd.text("myhostname")})
        tables = [word for word in listed.unknown if "$" not in word and word not in smtpd.words(_TABLES[key])]
        if not closed and tables and not any(entry.relay_to for entry in smtpd.sidecar.domains):
            text = f"{key} has the domains in {some(tables)}, and the sidecar rejects ordinary mail of external hosts to them."
            yield "error", "closed_domain", key, text, f"{COMPARE} Otherwise remove them from {key}."
        if closed:
            text = f"{key} has {some(closed)}, and the sidecar rejects ordinary mail of external hosts to them."
            yield "error", "closed_domain", key, text, f"{_opening_of(smtpd.sidecar, closed)} Otherwise remove them from {key}."


def _opening_of(settings: Settings, domains: Sequence[str]) -> str:
    """Return the changes that open these domains and no other name, if they are few and this is proved."""
    draft, opened = Draft(Evaluator(settings)), {"relay_to": True}
    try:
        for domain in domains[:_OPENED]:
            draft.set(ANY_LISTENER, domain, opened)
    except UnprovedError:
        return COMPARE
    if len(domains) > _OPENED or any(move.names.below or move.names.name not in domains for move in draft.moved()):
        return COMPARE
    tables = {domain: set_values(entry) for (_, domain), entry in draft.added.items()}
    listed = [entry.where("") for key, entry in draft.changed.items() if key not in draft.added]
    changes = [f"{key_lines(each.file, opened)[0]} to {printable(each.key)} ({printable(str(each))})" for each in listed]
    if tables:
        changes.append(f"these lines to the listener domains: {', '.join(table_lines(None, tables))}")
    return f"If these domains have mailboxes, add {', and '.join(changes)}."


def unlisted_recipients(smtpd: Smtpd) -> Iterator[Found]:
    """Find tables of recipients that do not have the addresses to which bounces return."""
    explicit = any("reject_unlisted_recipient" in smtpd.words(key) for key in RESTRICTIONS)
    if not smtpd.serves_external_hosts or not (explicit or smtpd.text("smtpd_reject_unlisted_recipient") == "yes"):
        return
    found: dict[tuple[str, bool, bool], list[str]] = {}
    classes = [(key, smtpd.domain_list(key), _known(smtpd, key)) for key in _TABLES if smtpd.words(key)]
    if all(known.others for _, _, known in classes):
        return
    for pattern in _report_domains(smtpd):
        name = pattern.probe
        matched = next((each for each in classes if name in each[1]), None)
        if matched is not None and name not in matched[2]:
            found.setdefault((matched[0], matched[2].others is None, smtpd.domains.accepts_mail(name)), []).append(str(pattern))
    for (key, uncertain, has_mailboxes), names in found.items():
        tables = _TABLES[key]
        unless = "The doctor cannot read all of them" if uncertain else "They do not have all addresses"
        text = (
            f"{tables} decides which recipients exist in {some(names)}. {unless}, and Postfix rejects others with 550 5.1.1 "
            "before it asks the sidecar. Bounces return to addresses that are made for each message (VERP)."
        )
        if key == "relay_domains":
            fix = f"Add these domains to {tables}, as @DOMAIN for all addresses of a domain, or empty {tables}."
        else:
            fix = f"Use a domain without mailboxes for bounces. It is not in {key}, but in relay_domains: {smtpd.export}."
        yield "warning" if uncertain or has_mailboxes else "error", "unlisted_recipients", key, text, fix


def unverified_recipients(smtpd: Smtpd) -> Iterator[Found]:
    """Find probes for recipients that no server accepts."""
    if not smtpd.serves_external_hosts:
        return
    for key in RESTRICTIONS:
        words = smtpd.words(key)
        if (probe := "reject_unverified_recipient") not in words:
            continue
        before = words[: words.index(probe)]
        tables = [table for check, table in pairwise(before) if check == "check_recipient_access"]
        permitted = [table_entries(table, smtpd.read) for table in tables]
        patterns = [
            pattern
            for pattern in _report_domains(smtpd)
            if not smtpd.domains.accepts_mail(pattern.probe)
            and not any(entries is None or _permits(entries, pattern) for entries in permitted)
        ]
        if patterns:
            entries = [smtpd.domains.reporter(pattern.probe) for pattern in patterns]
            dropped = any(LogMode.LOG_THEN_DROP in {each.log_oob, each.log_arf} for each in entries if each is not None)
            text = (
                f"Postfix answers 450 to recipients in {some(list(map(str, patterns)))} that no server accepts, before it asks "
                f"the sidecar ({probe})."
            )
            fix = f"Before {probe}, write check_recipient_access with a table that has these domains with OK."
            yield "error" if dropped else "warning", "unverified_recipients", key, text, fix


def _report_domains(smtpd: Smtpd) -> Iterator[Pattern]:
    """Return the domains of the listener domains that accept reports."""
    names = {entry.domain for entry in smtpd.sidecar.domains}
    named = (name for name in names if name not in {"", "*"} and not is_literal(name))
    patterns = (Pattern(name=name.removeprefix("*."), below=name.startswith("*.")) for name in named)
    for pattern in sorted(patterns, key=lambda found: (found.name, found.below)):
        if smtpd.domains.reporter(pattern.probe) is not None:
            yield pattern


def _known(smtpd: Smtpd, key: str) -> WholeDomains:
    """Return the domains in which Postfix knows every recipient, if they are in this list."""
    words = smtpd.words(tables := _TABLES[key])
    if not words and tables != "virtual_alias_maps":
        return WholeDomains(others=True)  # an empty list turns the check off
    # The keys of alias_maps are names without a domain.
    aliases = smtpd.words("alias_maps") if tables == "local_recipient_maps" else []
    rewriting = (word for each in _REWRITING for word in smtpd.words(each))
    return whole_domains([word for word in (*words, *rewriting) if word not in aliases], smtpd.read)


def _permits(entries: list[tuple[str, str]], pattern: Pattern) -> bool:
    """Return True if an access table answers OK for the domain."""
    keys = {f".{pattern.name}", pattern.name} if pattern.below else {pattern.name}
    return any(key.lower() in keys and value.upper() in {"OK", "PERMIT"} for key, value in entries)
