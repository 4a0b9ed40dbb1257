"""What in Postfix's settings will not work beside the sidecar, or is not safe: one small function for each thing.

Owns the findings and their order, the gravest first. Never reads Postfix's syntax; `postfix` and `postfix_lists` do.
"""

from collections.abc import Callable, Iterator, Sequence

import msgspec
from msgspec import Struct

from sidecar.commands.doctor.networks import beyond, forgets_this_machine, holds_everybody, listed, relay_hosts, relaying
from sidecar.commands.doctor.postfix import Postfix, read_postfix, split
from sidecar.commands.doctor.postfix_actions import before_the_verdict, table_files
from sidecar.commands.doctor.postfix_lists import DomainList, PostfixNetworks, files_named
from sidecar.commands.doctor.postfix_sockets import below_queue, milter_address, out_of_reach, seen, spelled
from sidecar.commands.doctor.relaying import Relaying, compare
from sidecar.commands.doctor.sockets import same_socket
from sidecar.commands.doctor.values import DoctorCode, Files, seconds, some
from sidecar.core.findings import Finding, Level
from sidecar.core.open_domains import NAME_THEM, PARENT_MATCHES, POSTFIX_FILE, OpenDomains, everything_open
from sidecar.core.settings.values import LogMode, Settings
from sidecar.core.text import printable

# The lists of domains whose mail Postfix takes from strangers (ADDRESS_CLASS_README); only the first is relayed on.
_OWN_DOMAINS = ("mydestination", "virtual_alias_domains", "virtual_mailbox_domains")
_LISTS = ("relay_domains", *_OWN_DOMAINS, "mynetworks")
_STRANGERS_END = ("reject_unauth_destination", "defer_unauth_destination", "reject", "defer")

# What stands before the end of the list and can answer OK for a stranger (SMTPD_ACCESS_README).
_MAY_PERMIT = ("check_", "permit_mx_backup", "permit_inet_interfaces", "permit_naked_ip_address")

# The sidecar answers within milliseconds; a disk that is busy or workers that are being replaced cost some seconds.
_PATIENCE = 10

_MILTER_VERSION, _LEAST_MILTER_VERSION = 6, 4


class PostfixCase(Struct, frozen=True, kw_only=True):
    """The sidecar's settings and one smtpd's, and the text of the files that Postfix's settings name."""

    settings: Settings
    domains: OpenDomains
    postfix: Postfix
    files: Files

    def finding(self, level: Level, code: DoctorCode, key: str, text: str, fix: str) -> Finding:
        """Return a finding at a setting. If a service overrides the setting, main.cf cannot fix it."""
        if key in self.postfix.service.own:
            fix = f"In master.cf, take -o {key} out of {printable(self.postfix.service.name)}. {fix}"
        return Finding(level=level, code=code, key=key, line=self.postfix.line(key), text=text, fix=fix)


def postfix_files(text: str) -> set[str]:
    """Give the paths of the files that Postfix's settings name and that the findings depend on."""
    services = read_postfix(text)
    lists = {path for postfix in services for key in _LISTS for path in files_named(postfix.text(key))}
    return lists.union(*map(table_files, services))


def check_postfix(text: str, settings: Settings, files: Files) -> list[Finding]:
    """Give all findings, errors first. What is true of some services only is said of the first of them by name."""
    domains = OpenDomains(settings)
    services = read_postfix(text)
    found: dict[Finding, list[str]] = {}
    for postfix in services:
        case = PostfixCase(settings=settings, domains=domains, postfix=postfix, files=files)
        for check in CHECKS:
            for finding in check(case):
                found.setdefault(finding, []).append(postfix.service.name)
    findings = [_of(finding, names, len(services)) for finding, names in found.items()]
    return sorted(findings, key=lambda finding: finding.level != "error")


def _of(finding: Finding, names: Sequence[str], services: int) -> Finding:
    if len(names) == services:
        return finding
    return msgspec.structs.replace(finding, text=f"Of {some(names)} in master.cf: {finding.text}")


def _milter(case: PostfixCase) -> Iterator[Finding]:
    """The sidecar is asked at all."""
    listening = case.settings.milter.socket
    chroot, queue = case.postfix.service.chroot, case.postfix.text("queue_directory")
    named = [milter_address(word) for word in case.postfix.words("smtpd_milters")]
    if any(same_socket(socket, listening) for word in named for socket in seen(word, queue, chroot=chroot)):
        return
    if chroot and any(same_socket(socket, listening) for word in named for socket in seen(word, queue, chroot=False)):
        yield case.finding("error", "socket_unreachable", "smtpd_milters", *out_of_reach(listening, queue))
    else:
        what = f"names {printable(', '.join(named))}" if named else "names no milter"
        text = f"smtpd_milters {what}, and the sidecar listens on {listening}: Postfix never asks it."
        fix = f"Write smtpd_milters = {spelled(listening, queue)}."
        yield case.finding("error", "milter_missing", "smtpd_milters", text, fix)


def _bypassed(case: PostfixCase) -> Iterator[Finding]:
    """Nothing else in Postfix takes mail past the sidecar."""
    if case.postfix.text("smtpd_proxy_filter"):
        text = "A filter before the queue has the content to itself: the sidecar sees none, and what passed RCPT is accepted."
        yield case.finding(
            "error",
            "before_queue_filter",
            "smtpd_proxy_filter",
            text,
            "Take it out, and filter after the queue (content_filter).",
        )
    if "no_milters" in case.postfix.words(key := "receive_override_options"):
        fix = "Take no_milters out."
        yield case.finding("error", "milter_bypassed", key, "no_milters means that the sidecar is never asked.", fix)
    if maps := case.postfix.text("smtpd_milter_maps"):
        text = f"Peers that {printable(maps)} holds have other milters or none: for them the sidecar is not asked."
        level: Level = "error" if "DISABLE" in maps else "warning"
        yield case.finding(level, "milter_bypassed", "smtpd_milter_maps", text, "Take smtpd_milter_maps out.")


def _before_the_verdict(case: PostfixCase) -> Iterator[Finding]:
    """No table acts on mail before the sidecar's verdict."""
    yield from (case.finding(*found) for found in before_the_verdict(case.postfix, case.files))


def _chroot(case: PostfixCase) -> Iterator[Finding]:
    """A UNIX socket is where a chrooted smtpd can see it."""
    listening, queue = case.settings.milter.socket, case.postfix.text("queue_directory")
    if case.postfix.service.chroot is None and listening.startswith("unix:") and below_queue(listening, queue) is None:
        text, fix = out_of_reach(listening, queue)
        yield case.finding(
            "warning", "socket_unreachable", "smtpd_milters", f"If smtpd is chrooted, as Debian's is: {text}", fix
        )


def _socket_rights(case: PostfixCase) -> Iterator[Finding]:
    """User postfix, as which smtpd runs, may write to a UNIX socket (unix(7): connecting takes that right)."""
    milter = case.settings.milter
    if not milter.socket.startswith("unix:") or milter.socket_mode & 0o002:
        return
    if not (milter.socket_owner == "postfix" or (milter.socket_group == "postfix" and milter.socket_mode & 0o020)):
        text = f"The socket {milter.socket} has mode {milter.socket_mode:04o} and no group that smtpd is known to be in."
        fix = 'In sidecar.toml, write socket_group = "postfix" and socket_mode = "0660" below [milter].'
        yield case.finding("warning", "socket_permissions", "smtpd_milters", text, fix)


def _default_action(case: PostfixCase) -> Iterator[Finding]:
    """A sidecar that is down loses no mail and lets none through."""
    for action, key in _default_actions(case):
        if action == "accept":
            text = "While the sidecar is down, mail passes unjudged and without a record."
        elif action == "reject":
            text = "While the sidecar is down, mail is rejected for good, reports and all."
        elif action == "quarantine":
            text = "While the sidecar is down, mail is answered 250 and put on hold, without a record."
        else:
            continue
        own = key == "smtpd_milters"
        fix = f"In smtpd_milters, write default_action=tempfail for {action}." if own else f"Write {key} = tempfail."
        yield case.finding("error", "unsafe_default_action", key, f"{action} is not safe. {text}", fix)


def _default_actions(case: PostfixCase) -> Iterator[tuple[str, str]]:
    """Give the action of all milters, and those that single ones have of their own."""
    yield case.postfix.text("milter_default_action"), "milter_default_action"
    yield from ((value, "smtpd_milters") for name, value in _own_options(case) if name == "default_action")


def _own_options(case: PostfixCase) -> Iterator[tuple[str, str]]:
    """Give the settings that single milters have of their own (postconf(5): smtpd_milters)."""
    for word in case.postfix.words("smtpd_milters"):
        for option in split(word.strip("{} "))[1:]:
            name, _, value = option.partition("=")
            yield name.strip(), value.strip()


def _protocol(case: PostfixCase) -> Iterator[Finding]:
    """The milter protocol is one that the sidecar can work with."""
    value = case.postfix.text("milter_protocol")
    version = int(value[0]) if value[:1].isdigit() else _MILTER_VERSION
    if version < _LEAST_MILTER_VERSION:
        text = f"Version {version} of the milter protocol tells too little: the sidecar answers everything 451."
        yield case.finding("error", "old_milter_protocol", "milter_protocol", text, "Write milter_protocol = 6.")
    elif version < _MILTER_VERSION:
        text = f"Version {version} of the milter protocol sends every body to its end."
        yield case.finding("warning", "old_milter_protocol", "milter_protocol", text, "Write milter_protocol = 6.")


def _relay_restrictions(case: PostfixCase) -> Iterator[Finding]:
    """Postfix keeps a relay control of its own."""
    key = _restrictions_key(case)
    words = case.postfix.words(key)
    stop = next((word for word in words if word in {"permit", *_STRANGERS_END}), "permit")
    if stop == "permit":
        text = f"{key} never rejects a stranger: without the sidecar this is an open relay."
        yield case.finding("error", "open_relay", key, text, f"Write {key} = permit_mynetworks, reject_unauth_destination.")
    elif stop == "defer_unauth_destination":
        text = "defer_unauth_destination answers 454: rejected external hosts retry for days."
        fix = f"Write {key} = {' '.join('reject_unauth_destination' if word == stop else word for word in words)}."
        yield case.finding("warning", "rejects_with_4xx", key, text, fix)
    before = words[: words.index(stop)] if stop in words else words
    if unknown := [word for word in before if word.startswith(_MAY_PERMIT)]:
        text = f"{some(unknown)} comes before {stop} and may let strangers relay; that cannot be told from here."
        yield case.finding("warning", "unknown_restriction", key, text, f"Put it behind {stop}, unless it only ever rejects.")


def _restrictions_key(case: PostfixCase) -> str:
    """Name the list that controls relaying (postconf(5): either may)."""
    relay, recipient = "smtpd_relay_restrictions", "smtpd_recipient_restrictions"
    return relay if case.postfix.words(relay) or not case.postfix.words(recipient) else recipient


def _takes_strangers(case: PostfixCase) -> bool:
    """Tell whether this smtpd is for strangers, and not only for those who log in."""
    words = case.postfix.words(_restrictions_key(case))
    return next((word for word in words if word in _STRANGERS_END), "").endswith("_unauth_destination")


def _relay_domains(case: PostfixCase) -> Iterator[Finding]:
    """Postfix's relay_domains and the sidecar's open domains are the same."""
    if not _takes_strangers(case):
        return
    relayed, *others = (_domain_list(case, key) for key in ("relay_domains", *_OWN_DOMAINS))
    fix = (
        f"Write relay_domains = {POSTFIX_FILE}, and make that file with the settings checked here: "
        f"sidecar export postfix --config FILE --output {POSTFIX_FILE}."
    )
    to_all = everything_open(case.domains, "Postfix")
    if relayed.is_everything:
        text = to_all or "relay_domains holds every domain: without the sidecar this is an open relay."
        yield case.finding(
            "error", "wildcard_open_domain" if to_all else "open_relay", "relay_domains", text, NAME_THEM if to_all else fix
        )
    elif to_all is not None:
        text = f"Postfix rejects what relay_domains does not hold, and rightly so: {to_all}"
        yield case.finding("error", "wildcard_open_domain", "relay_domains", text, NAME_THEM)
    elif relayed.unknown:
        text = f"What {some(relayed.unknown)} holds cannot be told from here."
        yield case.finding("warning", "unreadable_table", "relay_domains", text, fix)
    else:
        yield from compare(_relaying(case, relayed, others, fix), case.domains)


def _relaying(case: PostfixCase, relayed: DomainList, others: Sequence[DomainList], fix: str) -> Relaying:
    also = f" Write parent_domain_matches_subdomains = {PARENT_MATCHES}." if _parents(case) else ""
    uncertain = any("$" not in word for each in others for word in each.unknown)
    return Relaying(
        mta="Postfix",
        key="relay_domains",
        line=case.postfix.line("relay_domains"),
        relays=relayed.__contains__,
        # What a table holds that cannot be read here may be anything: better no finding than a false one.
        takes=lambda name: name in relayed or uncertain or any(name in each for each in others),
        names=relayed.names,
        fix=fix + also,
    )


def _parents(case: PostfixCase) -> bool:
    return "relay_domains" in case.postfix.words("parent_domain_matches_subdomains")


def _domain_list(case: PostfixCase, key: str) -> DomainList:
    # The own domains are compared as they stand (ADDRESS_CLASS_README): string lists, without parents.
    return DomainList(case.postfix.text(key), case.files, parents=key == "relay_domains" and _parents(case))


def _own_domains(case: PostfixCase) -> Iterator[Finding]:
    """Domains whose mail ends at this machine are open to strangers, or nobody can write to them any more."""
    if not _takes_strangers(case) or case.domains.rest is not None:
        return
    host = case.postfix.get("myhostname")
    for key in _OWN_DOMAINS:
        names = sorted({name for name in _domain_list(case, key).names if _is_domain(name)} - {host})
        closed = [name for name in names if name not in case.domains]
        if closed:
            text = f"Nobody but relay hosts can write to {some(closed)}: no listener domain opens them to strangers."
            yield case.finding(
                "warning",
                "closed_domain",
                key,
                text,
                "Add a listener domain with relay_to = true for each, if they are to have mail.",
            )


def _is_domain(name: str) -> bool:
    """Tell whether strangers could mean this key of a list; there are bare names, localhost and addresses among them."""
    return "." in name and "@" not in name and "localhost" not in name


def _networks(case: PostfixCase) -> Iterator[Finding]:
    """Who may relay by Postfix and who may by the sidecar are the same."""
    if not _takes_strangers(case):
        return
    if "permit_mynetworks" not in case.postfix.words(key := _restrictions_key(case)):
        if hosts := beyond(relay_hosts(case.settings), PostfixNetworks("", {}).addresses):
            text = f"Postfix lets the relay hosts {some(hosts)} relay nothing: {key} has no permit_mynetworks."
            yield case.finding("error", "rejected_before_sidecar", key, text, f"Begin {key} with permit_mynetworks.")
        return
    wanted = f"Write mynetworks = {listed(relaying(case.settings)) or 'the networks of relay_hosts and relay_from'}."
    value = case.postfix.get("mynetworks")
    if value is None:
        text = "mynetworks is not set: Postfix makes it from the addresses of this machine."
        yield case.finding("warning", "default_networks", "mynetworks", text, wanted)
        return
    networks = PostfixNetworks(value, case.files)
    if networks.unknown:
        everybody = any(word.startswith("static:") for word in networks.unknown)
        text = (
            "mynetworks holds everybody: without the sidecar this is an open relay."
            if everybody
            else (f"What {some(networks.unknown)} holds cannot be told from here.")
        )
        yield case.finding(
            "error" if everybody else "warning", "open_relay" if everybody else "unreadable_table", "mynetworks", text, wanted
        )
        return
    if holds_everybody(networks.addresses):
        text = "mynetworks holds everybody: without the sidecar this is an open relay."
        yield case.finding("error", "open_relay", "mynetworks", text, wanted)
    elif wider := beyond(networks.addresses, relaying(case.settings)):
        text = f"Postfix lets {some(wider)} relay, which the sidecar does not: only the sidecar rejects that mail now."
        yield case.finding("warning", "relays_beyond_policy", "mynetworks", text, wanted)
    if forgets_this_machine(relaying(case.settings), networks.addresses):
        text = "127.0.0.1 may relay by the sidecar's settings, but Postfix rejects that mail before the sidecar is asked."
        yield case.finding("warning", "rejected_before_sidecar", "mynetworks", text, wanted)
    if narrower := beyond(relaying(case.settings), networks.addresses):
        text = (
            f"{some(narrower)} may relay by the sidecar's settings, but Postfix rejects that mail before it asks the sidecar."
        )
        yield case.finding("error", "rejected_before_sidecar", "mynetworks", text, wanted)


def _authenticated(case: PostfixCase) -> Iterator[Finding]:
    """Those who may relay because they logged in get past Postfix."""
    if not any(entry.relay_from_authz for entry in case.settings.domains) or not _takes_strangers(case):
        return
    if "permit_sasl_authenticated" not in case.postfix.words(key := _restrictions_key(case)):
        text = "Postfix rejects the users in relay_from_authz before the sidecar is asked."
        fix = f"Put permit_sasl_authenticated before the end of {key}."
        yield case.finding("warning", "rejected_before_sidecar", key, text, fix)


def _in_flow_delay(case: PostfixCase) -> Iterator[Finding]:
    """Dropped reports do not slow down all other mail."""
    entries = case.settings.domains
    dropping = next((entry for entry in entries if LogMode.LOG_THEN_DROP in {entry.log_oob, entry.log_arf}), None)
    if dropping is not None and seconds(case.postfix.text("in_flow_delay")) != 0:
        where = f"{dropping.path} ({dropping.where('')})"
        text = f"{where} drops reports. After some dozens of dropped reports every message waits for in_flow_delay."
        yield case.finding("warning", "slow_after_drops", "in_flow_delay", text, "Write in_flow_delay = 0s.")


def _timeouts(case: PostfixCase) -> Iterator[Finding]:
    """Postfix waits long enough for an answer."""
    for key in ("milter_connect_timeout", "milter_command_timeout", "milter_content_timeout"):
        time = seconds(case.postfix.text(key))
        if time is not None and time < _PATIENCE:
            text = f"After {time} s without an answer Postfix gives the sidecar up; a busy disk can take that long."
            yield case.finding("warning", "short_timeout", key, text, f"Write {key} = 30s or more.")
    for name, value in _own_options(case):
        time = seconds(value) if name.endswith("_timeout") else None
        if time is not None and time < _PATIENCE:
            text = f"After {time} s without an answer Postfix gives the sidecar up; a busy disk can take that long."
            yield case.finding(
                "warning", "short_timeout", "smtpd_milters", text, f"In smtpd_milters, write {name}=30s or more."
            )


def _non_smtpd(case: PostfixCase) -> Iterator[Finding]:
    """Mail made on this machine does not pass the sidecar."""
    listening, queue = case.settings.milter.socket, case.postfix.text("queue_directory")
    named = [milter_address(word) for word in case.postfix.words("non_smtpd_milters")]
    if any(same_socket(socket, listening) for word in named for socket in seen(word, queue, chroot=None)):
        text = "Mail made on this machine passes the sidecar too, which has nothing to say about it."
        yield case.finding("warning", "local_mail", "non_smtpd_milters", text, "Take the sidecar out of non_smtpd_milters.")


def _bare_newline(case: PostfixCase) -> Iterator[Finding]:
    """No peer can hide one message inside another (SMTP smuggling)."""
    if case.postfix.text("smtpd_forbid_bare_newline") == "no":
        text = "A relay host can relay an external host's message that is hidden inside another (SMTP smuggling)."
        fix = "Write smtpd_forbid_bare_newline = normalize."
        yield case.finding("warning", "smtp_smuggling", "smtpd_forbid_bare_newline", text, fix)


CHECKS: tuple[Callable[[PostfixCase], Iterator[Finding]], ...] = (
    _milter,
    _bypassed,
    _before_the_verdict,
    _default_action,
    _relay_restrictions,
    _relay_domains,
    _networks,
    _authenticated,
    _own_domains,
    _protocol,
    _chroot,
    _socket_rights,
    _in_flow_delay,
    _timeouts,
    _non_smtpd,
    _bare_newline,
)
