"""Postfix's own relay control: it must permit exactly what the sidecar permits, or reject less than it.

Owns the findings about restrictions, relay_domains, networks, and proxies that can name any address as that of the peer. The
address of a load balancer is not in Postfix's settings.
"""

import ipaddress
from collections.abc import Iterator

from sidecar.commands.doctor.findings import COMPARE, Found, some
from sidecar.commands.doctor.postfix.smtpd import OWN_DOMAINS, REJECTS, Smtpd
from sidecar.commands.doctor.postfix.tables import DomainList, networks
from sidecar.commands.doctor.relaying import beyond, compare, compare_hosts, in_mynetworks, in_words, relay_hosts, relaying
from sidecar.core.names import is_literal, lineage
from sidecar.core.open_domains import NAME_THEM, PARENT_MATCHES, POSTFIX_FILE, everything_open, patterns_at

# Restrictions that can answer OK for an external host (SMTPD_ACCESS_README).
_CAN_PERMIT = ("check_", "permit_mx_backup", "permit_inet_interfaces", "permit_naked_ip_address")


def relay_restrictions(smtpd: Smtpd) -> Iterator[Found]:
    """Find relay control that does not reject external hosts."""
    key = smtpd.restrictions
    words = smtpd.words(key)
    end = next((word for word in words if word in {"permit", *REJECTS}), "permit")
    if end == "permit":
        text = f"{key} never rejects an external host: without the sidecar this is an open relay."
        yield "error", "open_relay", key, text, f"Write {key} = permit_mynetworks, reject_unauth_destination."
    elif end == "defer_unauth_destination":
        text = "defer_unauth_destination answers 454: external hosts that it rejects retry for days."
        better = " ".join("reject_unauth_destination" if word == end else word for word in words)
        yield "warning", "rejects_with_4xx", key, text, f"Write {key} = {better}."
    before = words[: words.index(end)] if end in words else words
    if unknown := [word for word in before if word.startswith(_CAN_PERMIT)]:
        text = f"{some(unknown)} before {end} can permit relaying for external hosts; the doctor cannot check that."
        yield "warning", "unknown_restriction", key, text, f"Move it behind {end}, unless it can only reject."


def relay_domains(smtpd: Smtpd) -> Iterator[Found]:
    """Compare the domains that Postfix accepts mail for with the sidecar's open domains."""
    if not smtpd.serves_external_hosts:
        return
    key = "relay_domains"
    relayed, *others = (smtpd.domain_list(each) for each in (key, *OWN_DOMAINS))
    own = f"Write {key} = {smtpd.exported or POSTFIX_FILE}, and make that file with: {smtpd.export}."
    parents = f"Write parent_domain_matches_subdomains = {PARENT_MATCHES}." if smtpd.parents_match else ""
    fix = _export(smtpd, key)
    if (to_all := everything_open(smtpd.domains, "Postfix")) is not None:
        text = to_all if relayed.is_everything else f"Postfix rightly rejects all domains outside relay_domains: {to_all}"
        yield "error", "wildcard_open_domain", key, text, NAME_THEM
    elif relayed.is_everything:
        yield "error", "open_relay", key, "relay_domains has every domain: without the sidecar this is an open relay.", own
    elif relayed.unknown:
        is_other = smtpd.exported is not None and smtpd.exported not in relayed.unknown
        by_hand = "Check that the sidecar accepts mail for each domain in it."
        yield (
            "warning",
            "unreadable_table",
            key,
            f"The doctor cannot read {some(relayed.unknown)}.",
            by_hand if is_other else fix,
        )
    else:
        # A table that cannot be read can have any domain: no finding is better than a wrong one.
        uncertain = any("$" not in word for each in others for word in each.unknown)
        yield from compare(
            smtpd.domains,
            mta="Postfix",
            key=key,
            relays=relayed.__contains__,
            accepts=lambda name: name in relayed or uncertain or any(name in each for each in others),
            names=relayed.names,
            fix=" ".join(filter(None, (fix, parents))),
            remove=" ".join(filter(None, (_removal(smtpd, key), parents))),
        )


def _export(smtpd: Smtpd, key: str) -> str:
    """Return how the missing domains get into relay_domains."""
    if (file := smtpd.exported) is None:
        named = f"Add {POSTFIX_FILE} to {key}" if smtpd.words(key) else f"Write {key} = {POSTFIX_FILE}"
        return f"{named}, and make that file with: {smtpd.export}."
    text = smtpd.read(file)
    if text is None:
        return f"Make {file} with: {smtpd.export}."
    if _is_old(smtpd, file):
        return f"{file} is older than the listener domains. Run the export again: {smtpd.export} && postfix reload."
    return "" if smtpd.parents_match else f"Write {file} before the other entries of {key}."


def _removal(smtpd: Smtpd, key: str) -> str:
    """Return how the domains that the sidecar rejects get out of relay_domains."""
    file = smtpd.exported
    others = DomainList(" ".join(word for word in smtpd.words(key) if word != file), smtpd.read, parents=smtpd.parents_match)
    by_hand = f"{COMPARE} Otherwise remove them from {key}."
    fixes = [_export(smtpd, key)] if file is not None and _is_old(smtpd, file) else []
    if not fixes or any(name in others and name not in smtpd.domains for name in others.names):
        fixes.append(by_hand)
    return " ".join(fixes)


def _is_old(smtpd: Smtpd, file: str) -> bool:
    """Return True if an exported file does not have the domains that `sidecar export` writes now."""
    exported = DomainList(file, smtpd.read, parents=False)
    listed = (name for name in (*smtpd.domains.names, *exported.names) if not is_literal(name))
    names = {name for each in listed for name in lineage(each)}
    return any(
        (pattern.probe in exported) != (pattern.probe in smtpd.domains) for name in names for pattern in patterns_at(name)
    )


def relaying_hosts(smtpd: Smtpd) -> Iterator[Found]:
    """Compare the hosts that can relay."""
    if not smtpd.serves_external_hosts:
        return
    if "permit_mynetworks" not in smtpd.words(key := smtpd.restrictions):
        if hosts := beyond(relay_hosts(smtpd.sidecar)):
            text = f"Postfix does not let the relay hosts {some(hosts)} relay: {key} has no permit_mynetworks."
            yield "error", "rejected_before_sidecar", key, text, f"Begin {key} with permit_mynetworks."
        return
    key, wanted = "mynetworks", relaying(smtpd.sidecar)
    names = in_mynetworks(wanted) or "the networks of relay_hosts and relay_from"
    fix = f"Write mynetworks = {names}."
    if key not in smtpd.lines:
        text = "mynetworks is not set: Postfix makes it from the addresses of this machine."
        yield "warning", "default_networks", key, text, fix
        return
    found, unknown = networks(smtpd.text(key), smtpd.read)
    is_open = any(each.prefixlen == 0 for each in found.iter_cidrs())
    if is_open or any(word.startswith("static:") for word in unknown):
        text = "mynetworks has all addresses: without the sidecar this is an open relay."
        yield "error", "open_relay", key, text, fix
    elif unknown:
        yield "warning", "unreadable_table", key, f"The doctor cannot read {some(unknown)}.", fix
    if unknown:
        return
    yield from compare_hosts(
        "Postfix",
        key,
        found & wanted if is_open else found,
        wanted,
        fix=f"Add to mynetworks: {in_mynetworks(wanted - found) or names}.",
        remove="Remove them from mynetworks, or add them to relay_hosts.",
    )
    # Settings do not show whether ::1 is in use.
    if "127.0.0.1" in wanted - found:
        text = "127.0.0.1 can relay by the sidecar's settings, but Postfix rejects that mail before it asks the sidecar."
        yield "warning", "rejected_before_sidecar", key, text, "Add to mynetworks: 127.0.0.1."


def authenticated(smtpd: Smtpd) -> Iterator[Found]:
    """Find users of relay_from_authz that Postfix rejects."""
    if not any(entry.relay_from_authz for entry in smtpd.sidecar.domains) or not smtpd.serves_external_hosts:
        return
    if "permit_sasl_authenticated" not in smtpd.words(key := smtpd.restrictions):
        text = "Postfix rejects the users in relay_from_authz before it asks the sidecar."
        yield "warning", "rejected_before_sidecar", key, text, f"Write permit_sasl_authenticated before the end of {key}."


def trusted_proxies(smtpd: Smtpd) -> Iterator[Found]:
    """Find relay hosts that can send XCLIENT, and an smtpd that accepts PROXY headers of other networks."""
    proxies, _ = networks(smtpd.text(key := "smtpd_authorized_xclient_hosts"), smtpd.read)
    if both := in_words(proxies & relay_hosts(smtpd.sidecar)):
        text = f"{some(both)} can send XCLIENT and is in relay_hosts: without XCLIENT, every external host behind it relays."
        yield "error", "proxy_trusted", key, text, f"Remove the proxy from relay_hosts, or from {key} if it is no proxy."
    if smtpd.text(key := "smtpd_upstream_proxy_protocol"):
        host = smtpd.name.rpartition(":")[0]
        if not all(map(_is_internal, [host] if host else smtpd.words("inet_interfaces"))):
            text = (
                "Every host that reaches this smtpd can name any address as its own in a PROXY header, also one of relay_hosts."
            )
            fix = "In master.cf, write an internal address of this machine before the port, such as 10.0.0.5:25."
            yield "warning", "proxy_trusted", key, text, fix


def _is_internal(word: str) -> bool:
    """Return True for an address of a private network, and False for a name."""
    try:
        return word in {"loopback-only", "localhost"} or ipaddress.ip_address(word.strip("[]")).is_private
    except ValueError:
        return False
