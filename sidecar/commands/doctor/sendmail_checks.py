"""The checks of Sendmail's settings: one small function for each subject.

Owns the findings and their order. Never reads Sendmail's syntax.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec.structs import asdict

from sidecar.commands.doctor.findings import PATIENCE, Check, Found, ReadFile, export_command, run_checks, some
from sidecar.commands.doctor.relaying import compare, compare_hosts, relaying
from sidecar.commands.doctor.sendmail import Daemon, Filter, Sendmail, read_sendmail
from sidecar.commands.doctor.sockets import same_socket
from sidecar.core.findings import Finding
from sidecar.core.open_domains import NAME_THEM, SENDMAIL_FILE, OpenDomains, everything_open
from sidecar.core.settings.settings import Settings

_ACCESS_FEATURE = "FEATURE(`access_db', `hash -T<TMPF> /etc/mail/access-and-sidecar', `skip', `lookupdotdomain')"


class _Case(Sendmail, frozen=True, kw_only=True):
    """Sendmail's settings and those of the sidecar."""

    sidecar: Settings
    config: Path | None
    domains: OpenDomains

    @property
    def make_map(self) -> str:
        """How to make the access map."""
        export = export_command("sendmail", self.config, SENDMAIL_FILE)
        return f"Make the access map from {SENDMAIL_FILE} as deploy/sendmail/README.md says: {export}"

    @property
    def filter(self) -> Filter | None:
        return next(filter(None, map(self.asked, self.daemons)), None)

    def asked(self, daemon: Daemon) -> Filter | None:
        """Return the daemon's filter that is the sidecar."""
        return next((each for each in daemon.filters if same_socket(each.socket, self.sidecar.milter.socket)), None)


def check_sendmail(text: str, settings: Settings, read: ReadFile, config: Path | None = None) -> list[Finding]:
    """Return all findings, errors first."""
    case = _Case(**asdict(read_sendmail(text, read)), sidecar=settings, config=config, domains=OpenDomains(settings))
    return run_checks(CHECKS, [case])


def _milter(case: _Case) -> Iterator[Found]:
    """Find listeners that do not ask the sidecar."""
    listening = case.sidecar.milter.socket
    missing = [each for each in case.daemons if case.asked(each) is None]
    if any(not each.own for each in missing):
        text = f"No milter in use has the socket {listening}, on which the sidecar listens: Sendmail never asks the sidecar."
        fix = f"In sendmail.mc, write INPUT_MAIL_FILTER(`sidecar', `S={_in_sendmail(listening)}, F=T, T=S:30s;R:30s;E:5m')."
        yield "error", "milter_missing", "InputMailFilters", text, fix
    if own := [each.name for each in missing if each.own]:
        text = f"The listener {some(own)} has filters of its own, without the sidecar: Sendmail accepts its mail unchecked."
        fix = "In its DAEMON_OPTIONS, add the sidecar to InputMailFilters, or remove InputMailFilters."
        yield "error", "milter_missing", "DaemonPortOptions", text, fix


def _in_sendmail(listening: str) -> str:
    """Write the sidecar's socket as Sendmail does: `port@host`."""
    if listening.startswith("unix:"):
        return listening
    host, _, port = listening.removeprefix("inet:").rpartition(":")
    kind = "inet6" if host.startswith("[") else "inet"
    return f"{kind}:{port}@{host.strip('[]')}"


def _filter(case: _Case) -> Iterator[Found]:
    """Check the flag and the times of the sidecar's filter."""
    found = case.filter
    if found is None:
        return
    if found.failure not in {"T", "4"}:
        rejects = "rejects mail permanently, including reports"
        effect = rejects if found.failure == "R" else "accepts mail unchecked and without a record"
        flag = f"F={found.failure}" if found.failure else "No F"
        text = f"{flag} is not safe: while the sidecar is down, Sendmail {effect}."
        yield "error", "unsafe_default_action", found.key, text, "In sendmail.mc, write F=T into its INPUT_MAIL_FILTER."
    if short := [f"{step}:{time}s" for step, time in found.timeouts.items() if time < PATIENCE]:
        text = f"T={';'.join(short)} is too short: the sidecar can take longer to answer if its disk is busy."
        fix = "In sendmail.mc, write T=S:30s;R:30s;E:5m into its INPUT_MAIL_FILTER."
        yield "warning", "short_timeout", found.key, text, fix


def _signing_order(case: _Case) -> Iterator[Found]:
    """Find filters that are asked before a sidecar that adds header fields: a DKIM signature of theirs does not cover these."""
    sign, found = case.sidecar.sign, case.filter
    if sign is None or not (sign.header or sign.cfbl_address) or found is None:
        return
    for daemon in case.daemons:
        place = daemon.filters.index(found) if found in daemon.filters else 0
        if place:
            before = some([each.key for each in daemon.filters[:place]])
            text = (
                f"Sendmail asks {before} before {found.key}: a DKIM signature made there does not cover the fields of [sign]."
            )
            fix = "In sendmail.mc, write the INPUT_MAIL_FILTER of the sidecar before those of the others."
            yield "warning", "signed_too_late", "InputMailFilters", text, fix


def _recipients(case: _Case) -> Iterator[Found]:
    """Compare the domains that Sendmail relays to with the sidecar's open domains."""
    key = "access_db"
    if case.promiscuous:
        text = "FEATURE(`promiscuous_relay') never rejects an external host: without the sidecar this is an open relay."
        fix = f"In sendmail.mc, write {_ACCESS_FEATURE} instead. {case.make_map}."
        yield "error", "open_relay", "promiscuous_relay", text, fix
        return
    if (to_all := everything_open(case.domains, "Sendmail")) is not None:
        text = f"Sendmail rightly rejects all domains outside its access map: {to_all}"
        yield "error", "wildcard_open_domain", key, text, NAME_THEM
        return
    if case.access is None:
        text = f"The doctor cannot read {case.access_path}, the source of the access map. Without the map, all mail gets 451."
        yield "warning", "unreadable_table", key, text, f"{case.make_map}."
        return
    fix = f"{case.make_map}." if case.dots and case.skips else f"In sendmail.mc, write {_ACCESS_FEATURE}. {case.make_map}."
    yield from compare(
        case.domains,
        mta="Sendmail",
        key=key,
        relays=case.relays_to,
        accepts=lambda domain: domain in case.members("w") or case.relays_to(domain),
        names=case.recipient_domains,
        fix=fix,
        remove=fix,
    )


def _access_map(case: _Case) -> Iterator[Found]:
    """Find an access map that is missing."""
    if case.is_map_missing:
        text = f"The doctor cannot read {case.access_path}.db. If it is missing, Sendmail answers 451 to all mail."
        yield "error", "unreadable_table", "access_db", text, f"{case.make_map}."


def _relaying_features(case: _Case) -> Iterator[Found]:
    """Find features that relay for hosts which no list names."""
    for name in case.relaying_features:
        fix = f"In sendmail.mc, remove FEATURE(`{name}')."
        if name == "relay_based_on_MX":
            text = f"FEATURE(`{name}') relays to each domain whose owner writes an MX record with this host."
            yield "warning", "relays_beyond_policy", name, f"{text} Only the sidecar rejects that mail.", fix
        else:
            whose = "in a local domain" if name == "relay_local_from" else "with a From: entry in the access map"
            text = f"FEATURE(`{name}') relays for each host that writes an envelope sender {whose}"
            yield "error", "open_relay", name, f"{text}: without the sidecar this is an open relay.", fix


def _peers(case: _Case) -> Iterator[Found]:
    """Compare the hosts that can relay by Sendmail's settings with those that can by the sidecar's."""
    if case.access is None or case.promiscuous:
        return
    fix = "In the access map, write Connect:192.0.2.7 RELAY for each relay host, and for no other."
    yield from compare_hosts("Sendmail", "access_db", case.relaying, relaying(case.sidecar), fix=fix, remove=fix)


def _authenticated(case: _Case) -> Iterator[Found]:
    needed = any(entry.relay_from_authz for entry in case.sidecar.domains)
    if needed and not case.promiscuous and not case.members("TrustAuthMech"):
        text = "Sendmail rejects the users in relay_from_authz before it asks the sidecar."
        fix = "In sendmail.mc, write TRUST_AUTH_MECH(`PLAIN LOGIN') with the mechanisms that you offer."
        yield "warning", "rejected_before_sidecar", "TRUST_AUTH_MECH", text, fix


def _class_r(case: _Case) -> Iterator[Found]:
    if case.named and not case.promiscuous:
        text = f"Class R has {some(sorted(case.named))}: a peer with such a name, or a name below it, can relay to any domain."
        fix = f"Remove them from class R (RELAY_DOMAIN, /etc/mail/relay-domains). {case.make_map}."
        yield "warning", "relays_beyond_policy", "relay-domains", text, fix


def _privacy(case: _Case) -> Iterator[Found]:
    key = "PrivacyOptions"
    flags = {flag.strip().lower() for flag in case.options.get(key, "").split(",")}
    if "goaway" not in flags and not {"noexpn", "novrfy"} <= flags:
        text = "External hosts can ask for names with EXPN and VRFY, and Sendmail asks no milter about that."
        yield "warning", "address_probing", key, text, "In sendmail.mc, add noexpn and novrfy to confPRIVACY_FLAGS."


CHECKS: Sequence[Check[_Case]] = (
    _milter,
    _filter,
    _signing_order,
    _access_map,
    _recipients,
    _relaying_features,
    _peers,
    _authenticated,
    _class_r,
    _privacy,
)
