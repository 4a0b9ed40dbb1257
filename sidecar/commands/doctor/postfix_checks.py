"""The checks of Postfix's settings: one small function for each subject.

Owns the findings and their order, the most serious first. Never reads Postfix's syntax.
"""

from collections.abc import Iterator, Sequence

from msgspec.structs import asdict

from sidecar.commands.doctor.findings import PATIENCE, Check, Found, ReadFile, run_checks, seconds, some
from sidecar.commands.doctor.postfix import Postfix, read_postfix, split
from sidecar.commands.doctor.postfix_tables import DomainList, access_actions, content_actions, networks, recipient_bcc_maps
from sidecar.commands.doctor.relaying import beyond, compare, compare_hosts, in_mynetworks, relay_hosts, relaying
from sidecar.commands.doctor.sockets import below_queue, in_main_cf, milter_address, out_of_reach, reaches
from sidecar.core.findings import Finding
from sidecar.core.open_domains import NAME_THEM, PARENT_MATCHES, POSTFIX_FILE, OpenDomains, everything_open
from sidecar.core.settings.values import LogMode, Settings
from sidecar.core.text import printable

# The lists of domains whose mail ends at this machine (ADDRESS_CLASS_README).
_OWN_DOMAINS = ("mydestination", "virtual_alias_domains", "virtual_mailbox_domains")
_REJECTS = ("reject_unauth_destination", "defer_unauth_destination", "reject", "defer")

# Restrictions that can answer OK for an external host (SMTPD_ACCESS_README).
_CAN_PERMIT = ("check_", "permit_mx_backup", "permit_inet_interfaces", "permit_naked_ip_address")

_MILTER_VERSION, _LEAST_MILTER_VERSION = 6, 4
_WHILE_DOWN = {
    "accept": "Postfix accepts mail unchecked and without a record",
    "reject": "Postfix rejects mail permanently, including reports",
    "quarantine": "Postfix answers 250 and holds the mail, without a record",
}


class _Smtpd(Postfix, frozen=True, kw_only=True):
    """The settings of one smtpd, and those of the sidecar."""

    sidecar: Settings
    domains: OpenDomains

    @property
    def listening(self) -> str:
        return self.sidecar.milter.socket

    @property
    def queue(self) -> str:
        return self.text("queue_directory")

    def asks(self, key: str, *, chroot: bool | None) -> bool:
        named = map(milter_address, self.words(key))
        return any(reaches(address, self.listening, self.queue, chroot=chroot) for address in named)

    @property
    def restrictions(self) -> str:
        """The list that controls relaying (postconf(5): either can)."""
        relay, recipient = "smtpd_relay_restrictions", "smtpd_recipient_restrictions"
        return relay if self.words(relay) or not self.words(recipient) else recipient

    @property
    def serves_external_hosts(self) -> bool:
        """True if this smtpd is not only for users that log in."""
        end = next((word for word in self.words(self.restrictions) if word in _REJECTS), "")
        return end.endswith("_unauth_destination")

    @property
    def parents_match(self) -> bool:
        """True if a name in relay_domains includes all names below it."""
        return "relay_domains" in self.words("parent_domain_matches_subdomains")

    def domain_list(self, key: str) -> DomainList:
        """Return a list of domains. Those that end at this machine never include names below them (ADDRESS_CLASS_README)."""
        return DomainList(self.text(key), self.read, parents=key == "relay_domains" and self.parents_match)

    def milter_options(self, name: str) -> Iterator[tuple[str, str]]:
        """Return the options of single milters whose names end in `name` (postconf(5): smtpd_milters)."""
        for word in self.words("smtpd_milters"):
            for option in split(word.strip("{} "))[1:]:
                key, _, value = map(str.strip, option.partition("="))
                if key.endswith(name):
                    yield key, value


def check_postfix(text: str, settings: Settings, read: ReadFile) -> list[Finding]:
    """Return all findings, errors first. A finding about some services only names them."""
    domains = OpenDomains(settings)
    return run_checks(CHECKS, [_Smtpd(**asdict(each), sidecar=settings, domains=domains) for each in read_postfix(text, read)])


# --- the sidecar is asked, and its verdict counts


def _milter(smtpd: _Smtpd) -> Iterator[Found]:
    key, chroot = "smtpd_milters", smtpd.chroot
    if smtpd.asks(key, chroot=chroot):
        return
    if chroot and smtpd.asks(key, chroot=False):
        yield "error", "socket_unreachable", key, *out_of_reach(smtpd.listening, smtpd.queue)
        return
    named = printable(", ".join(map(milter_address, smtpd.words(key)))) or "no milter"
    text = f"smtpd_milters names {named}, and the sidecar listens on {smtpd.listening}: Postfix never asks the sidecar."
    yield "error", "milter_missing", key, text, f"Write smtpd_milters = {in_main_cf(smtpd.listening, smtpd.queue)}."


def _bypassed(smtpd: _Smtpd) -> Iterator[Found]:
    if smtpd.text(key := "smtpd_proxy_filter"):
        text = "With a filter before the queue the sidecar gets no content, and accepts each message that passed RCPT."
        yield "error", "before_queue_filter", key, text, "Remove it, and filter after the queue (content_filter)."
    if "no_milters" in smtpd.words(key := "receive_override_options"):
        yield "error", "milter_bypassed", key, "no_milters means that Postfix never asks the sidecar.", "Remove no_milters."
    if maps := smtpd.text(key := "smtpd_milter_maps"):
        text = f"Hosts in {printable(maps)} have other milters or none: for them Postfix does not ask the sidecar."
        yield "error" if "DISABLE" in maps else "warning", "milter_bypassed", key, text, f"Remove {key}."


def _default_action(smtpd: _Smtpd) -> Iterator[Found]:
    key = "milter_default_action"
    actions = [(key, smtpd.text(key), f"Write {key} = tempfail.")]
    for _, action in smtpd.milter_options("default_action"):
        actions.append(("smtpd_milters", action, f"In smtpd_milters, write default_action=tempfail instead of {action}."))
    for where, action, fix in actions:
        if effect := _WHILE_DOWN.get(action):
            text = f"{action} is not safe: while the sidecar is down, {effect}."
            yield "error", "unsafe_default_action", where, text, fix


def _protocol(smtpd: _Smtpd) -> Iterator[Found]:
    value = smtpd.text(key := "milter_protocol")
    version = int(value[0]) if value[:1].isdigit() else _MILTER_VERSION
    if version < _LEAST_MILTER_VERSION:
        text = f"Version {version} of the milter protocol lacks facts that the sidecar needs: it answers 451 to everything."
        yield "error", "old_milter_protocol", key, text, f"Write {key} = 6."
    elif version < _MILTER_VERSION:
        text = f"With version {version} of the milter protocol Postfix sends the sidecar the whole body of each message."
        yield "warning", "old_milter_protocol", key, text, f"Write {key} = 6."


def _socket(smtpd: _Smtpd) -> Iterator[Found]:
    milter, key = smtpd.sidecar.milter, "smtpd_milters"
    if not milter.socket.startswith("unix:"):
        return
    if smtpd.chroot is None and below_queue(milter.socket, smtpd.queue) is None:
        text, fix = out_of_reach(milter.socket, smtpd.queue)
        yield "warning", "socket_unreachable", key, f"If smtpd is chrooted, as on Debian: {text}", fix
    by_group = milter.socket_group == "postfix" and milter.socket_mode & 0o020
    if not (milter.socket_mode & 0o002 or milter.socket_owner == "postfix" or by_group):
        text = f"{milter.socket} has mode {milter.socket_mode:04o}, and user postfix is probably not in its group."
        fix = 'In sidecar.toml, write socket_group = "postfix" and socket_mode = "0660" below [milter].'
        yield "warning", "socket_permissions", key, text, fix


def _timeouts(smtpd: _Smtpd) -> Iterator[Found]:
    keys = [f"milter_{step}_timeout" for step in ("connect", "command", "content")]
    timeouts = [(key, smtpd.text(key), f"Write {key} = 30s or more.") for key in keys]
    for name, value in smtpd.milter_options("_timeout"):
        timeouts.append(("smtpd_milters", value, f"In smtpd_milters, write {name}=30s or more."))
    for key, value, fix in timeouts:
        if (time := seconds(value)) is not None and time < PATIENCE:
            text = f"Postfix waits {time} s for an answer of the sidecar, which can take longer if its disk is busy."
            yield "warning", "short_timeout", key, text, fix


def _local_mail(smtpd: _Smtpd) -> Iterator[Found]:
    if smtpd.asks(key := "non_smtpd_milters", chroot=None):
        text = "Postfix also asks the sidecar about mail made on this machine, for which it has no rules."
        yield "warning", "local_mail", key, text, f"Remove the sidecar from {key}."


# --- Postfix's own relay control


def _relay_restrictions(smtpd: _Smtpd) -> Iterator[Found]:
    key = smtpd.restrictions
    words = smtpd.words(key)
    end = next((word for word in words if word in {"permit", *_REJECTS}), "permit")
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


def _relay_domains(smtpd: _Smtpd) -> Iterator[Found]:
    if not smtpd.serves_external_hosts:
        return
    key = "relay_domains"
    relayed, *others = (smtpd.domain_list(each) for each in (key, *_OWN_DOMAINS))
    fix = (
        f"Write relay_domains = {POSTFIX_FILE}, and make that file with the settings that you check here: "
        f"sidecar export postfix --config FILE --output {POSTFIX_FILE}."
    )
    if (to_all := everything_open(smtpd.domains, "Postfix")) is not None:
        text = to_all if relayed.is_everything else f"Postfix rightly rejects all domains outside relay_domains: {to_all}"
        yield "error", "wildcard_open_domain", key, text, NAME_THEM
    elif relayed.is_everything:
        yield "error", "open_relay", key, "relay_domains has every domain: without the sidecar this is an open relay.", fix
    elif relayed.unknown:
        yield "warning", "unreadable_table", key, f"The doctor cannot read {some(relayed.unknown)}.", fix
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
            fix=f"{fix} Write parent_domain_matches_subdomains = {PARENT_MATCHES}." if smtpd.parents_match else fix,
        )


def _own_domains(smtpd: _Smtpd) -> Iterator[Found]:
    if not smtpd.serves_external_hosts or smtpd.domains.rest is not None:
        return
    for key in _OWN_DOMAINS:
        # The lists can also have host names, localhost and addresses, to which no external host writes.
        names = {name for name in smtpd.domain_list(key).names if "." in name and "@" not in name and "localhost" not in name}
        if closed := sorted(name for name in names - {smtpd.text("myhostname")} if name not in smtpd.domains):
            text = f"Only relay hosts can send to {some(closed)}: no listener domain allows it to external hosts."
            fix = "If these domains are to get mail, add a listener domain with relay_to = true for each."
            yield "warning", "closed_domain", key, text, fix


def _networks(smtpd: _Smtpd) -> Iterator[Found]:
    if not smtpd.serves_external_hosts:
        return
    if "permit_mynetworks" not in smtpd.words(key := smtpd.restrictions):
        if hosts := beyond(relay_hosts(smtpd.sidecar)):
            text = f"Postfix does not let the relay hosts {some(hosts)} relay: {key} has no permit_mynetworks."
            yield "error", "rejected_before_sidecar", key, text, f"Begin {key} with permit_mynetworks."
        return
    key, wanted = "mynetworks", relaying(smtpd.sidecar)
    fix = f"Write mynetworks = {in_mynetworks(wanted) or 'the networks of relay_hosts and relay_from'}."
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
    yield from compare_hosts("Postfix", key, found & wanted if is_open else found, wanted, fix)
    # Settings do not show whether ::1 is in use.
    if "127.0.0.1" in wanted - found:
        text = "127.0.0.1 can relay by the sidecar's settings, but Postfix rejects that mail before it asks the sidecar."
        yield "warning", "rejected_before_sidecar", key, text, fix


def _authenticated(smtpd: _Smtpd) -> Iterator[Found]:
    if not any(entry.relay_from_authz for entry in smtpd.sidecar.domains) or not smtpd.serves_external_hosts:
        return
    if "permit_sasl_authenticated" not in smtpd.words(key := smtpd.restrictions):
        text = "Postfix rejects the users in relay_from_authz before it asks the sidecar."
        yield "warning", "rejected_before_sidecar", key, text, f"Write permit_sasl_authenticated before the end of {key}."


# --- the rest


def _in_flow_delay(smtpd: _Smtpd) -> Iterator[Found]:
    modes = ((entry, {entry.log_oob, entry.log_arf}) for entry in smtpd.sidecar.domains)
    dropping = next((entry for entry, found in modes if LogMode.LOG_THEN_DROP in found), None)
    if dropping is not None and seconds(smtpd.text(key := "in_flow_delay")) != 0:
        where = f"{dropping.path} ({dropping.where('')})"
        text = f"{where} drops reports. After some dozens of dropped reports every message waits for in_flow_delay."
        yield "warning", "slow_after_drops", key, text, f"Write {key} = 0s."


def _bare_newline(smtpd: _Smtpd) -> Iterator[Found]:
    if smtpd.text(key := "smtpd_forbid_bare_newline") == "no":
        text = "A relay host can relay an external host's message that is hidden inside another (SMTP smuggling)."
        yield "warning", "smtp_smuggling", key, text, f"Write {key} = normalize."


CHECKS: Sequence[Check[_Smtpd]] = (
    _milter,
    _bypassed,
    recipient_bcc_maps,
    content_actions,
    access_actions,
    _default_action,
    _relay_restrictions,
    _relay_domains,
    _networks,
    _authenticated,
    _own_domains,
    _protocol,
    _socket,
    _in_flow_delay,
    _timeouts,
    _local_mail,
    _bare_newline,
)
