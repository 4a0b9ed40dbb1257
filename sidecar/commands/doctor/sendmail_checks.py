"""What in Sendmail's settings will not work beside the sidecar, or is not safe: one small function for each thing.

Owns the findings and their order. Never reads Sendmail's syntax; `sendmail` does.
"""

from collections.abc import Callable, Iterator

from msgspec import Struct

from sidecar.commands.doctor.networks import beyond, relaying
from sidecar.commands.doctor.relaying import Relaying, compare
from sidecar.commands.doctor.sendmail import Access, Filter, Sendmail, address_set, read_sendmail
from sidecar.commands.doctor.sockets import same_socket
from sidecar.commands.doctor.values import DoctorCode, Files, some
from sidecar.core.findings import Finding, Level
from sidecar.core.open_domains import NAME_THEM, SENDMAIL_FILE, OpenDomains, everything_open, lineage
from sidecar.core.settings.values import Settings

# The sidecar answers within milliseconds; a disk that is busy or workers that are being replaced cost some seconds.
_PATIENCE = 10

_ACCESS_FEATURE = "FEATURE(`access_db', `hash -T<TMPF> /etc/mail/access-and-sidecar', `skip', `lookupdotdomain')"
_MAP = f"Make {SENDMAIL_FILE} with sidecar export sendmail, and the access map from it as deploy/sendmail/README.md says"


class SendmailCase(Struct, frozen=True, kw_only=True):
    """The sidecar's settings and Sendmail's, and the text of the files that Sendmail's settings name."""

    settings: Settings
    domains: OpenDomains
    told: Sendmail
    files: Files

    def finding(self, level: Level, code: DoctorCode, key: str, text: str, fix: str) -> Finding:
        """Return a finding at an option."""
        option = self.told.options.get(key)
        return Finding(level=level, code=code, key=key, line=option.line if option else None, text=text, fix=fix)

    @property
    def filter(self) -> Filter | None:
        """The milter that is the sidecar."""
        listening = self.settings.milter.socket
        named = (each for each in self.told.input_filters if each.socket is not None)
        return next((each for each in named if same_socket(each.socket or "", listening)), None)

    @property
    def named(self) -> frozenset[str]:
        """The domains in class R; the addresses in it are for peers alone."""
        members = self.told.members("R", self.files)
        return frozenset(word for word in members if ":" not in word and not word.replace(".", "").isdecimal())

    @property
    def access(self) -> Access | None:
        """The access map; an empty one where there is none, None where its source cannot be read."""
        if self.told.access is None:
            return Access("")
        source = self.files.get(self.told.access.value)
        return None if source is None else Access(source)


def sendmail_files(text: str) -> set[str]:
    """Give the paths of the files that Sendmail's settings name and that the findings depend on."""
    told = read_sendmail(text)
    access = [told.access.value] if told.access is not None else []
    return {path for path in (*told.files.get("R", ()), *told.files.get("w", ()), *access) if path.startswith("/")}


def check_sendmail(text: str, settings: Settings, files: Files) -> list[Finding]:
    """Give all findings, errors first."""
    case = SendmailCase(settings=settings, domains=OpenDomains(settings), told=read_sendmail(text), files=files)
    findings = [finding for check in CHECKS for finding in check(case)]
    return sorted(findings, key=lambda finding: finding.level != "error")


def _milter(case: SendmailCase) -> Iterator[Finding]:
    """The sidecar is asked at all."""
    if case.filter is None:
        listening = case.settings.milter.socket
        text = f"No milter in use has the socket {listening}, on which the sidecar listens: Sendmail never asks it."
        fix = f"In sendmail.mc, write INPUT_MAIL_FILTER(`sidecar', `S={_spelled(listening)}, F=T, T=S:30s;R:30s;E:5m')."
        yield case.finding("error", "milter_missing", "InputMailFilters", text, fix)


def _failure(case: SendmailCase) -> Iterator[Finding]:
    """A sidecar that is down loses no mail and lets none through."""
    if case.filter is None or case.filter.failure in {"T", "4"}:
        return
    rejected = case.filter.failure == "R"
    what = "mail is rejected for good, reports and all" if rejected else "mail passes unjudged and without a record"
    given = f"F={case.filter.failure}" if case.filter.failure else "No F"
    text = f"{given} is not safe: while the sidecar is down, {what}."
    yield _at(case.filter, "error", "unsafe_default_action", text, "In sendmail.mc, write F=T into its INPUT_MAIL_FILTER.")


def _promiscuous(case: SendmailCase) -> Iterator[Finding]:
    """Sendmail keeps a relay control of its own."""
    if case.told.promiscuous:
        text = "FEATURE(`promiscuous_relay') never rejects a stranger: without the sidecar this is an open relay."
        yield case.finding(
            "error", "open_relay", "promiscuous_relay", text, f"In sendmail.mc, write {_ACCESS_FEATURE} instead. {_MAP}."
        )


def _recipients(case: SendmailCase) -> Iterator[Finding]:
    """What Sendmail relays and the sidecar's open domains are the same."""
    if case.told.promiscuous:
        return
    access, key = case.access, "access_db"
    if (text := everything_open(case.domains, "Sendmail")) is not None:
        yield case.finding(
            "error",
            "wildcard_open_domain",
            key,
            f"Sendmail rejects what it is not told to relay, and rightly so: {text}",
            NAME_THEM,
        )
    elif access is None:
        assert case.told.access is not None  # noqa: S101 - without a map there is an empty one
        text = f"What {case.told.access.value} holds cannot be told from here: there is no text of that name to read."
        yield case.finding("warning", "unreadable_table", key, text, f"{_MAP}.")
    else:
        yield from compare(_relaying(case, access), case.domains)


def _relaying(case: SendmailCase, access: Access) -> Relaying:
    """Describe what the rules relay: class R, the access map, and what ends at this machine (class w)."""
    told, line = case.told, case.told.access.line if case.told.access else None
    named, own = case.named, told.members("w", case.files)

    def relays(domain: str) -> bool:
        in_class = domain in named if told.hosts_only else any(name in named for name in lineage(domain))
        return in_class or access.relays_to(domain, told)

    features = "" if told.dots and told.skips else f"In sendmail.mc, write {_ACCESS_FEATURE}. "
    return Relaying(
        mta="Sendmail",
        key="access_db",
        line=line,
        relays=relays,
        takes=lambda domain: domain in own or relays(domain),
        names=[*named, *access.recipient_domains],
        fix=f"{features}{_MAP}.",
    )


def _authenticated(case: SendmailCase) -> Iterator[Finding]:
    """Those who may relay because they logged in get past Sendmail."""
    needed = any(entry.relay_from_authz for entry in case.settings.domains)
    if needed and not case.told.promiscuous and not case.told.members("TrustAuthMech", case.files):
        text = "Sendmail rejects the users in relay_from_authz before the sidecar is asked."
        fix = "In sendmail.mc, write TRUST_AUTH_MECH(`PLAIN LOGIN') with the mechanisms that you offer."
        yield case.finding("warning", "rejected_before_sidecar", "TRUST_AUTH_MECH", text, fix)


def _class_r(case: SendmailCase) -> Iterator[Finding]:
    """No domain is in class R, where it would let peers relay by their names."""
    names = sorted(case.named)
    if names and not case.told.promiscuous:
        text = (
            f"Class R has {some(names)}: a peer whose name is, or is below, one of them may relay anywhere by Sendmail's rules."
        )
        yield case.finding(
            "warning",
            "relays_beyond_policy",
            "relay-domains",
            text,
            f"Take them out of class R (RELAY_DOMAIN, /etc/mail/relay-domains). {_MAP}.",
        )


def _peers(case: SendmailCase) -> Iterator[Finding]:
    """Who may relay by Sendmail and who may by the sidecar are the same."""
    access = case.access
    if access is None or case.told.promiscuous:
        return
    allowed = address_set(iter(case.told.members("R", case.files))) | access.relaying
    wanted = "In the access map, write Connect:192.0.2.7 RELAY for each relay host, and for no other."
    if wider := beyond(allowed, relaying(case.settings)):
        text = f"Sendmail lets {some(wider)} relay, who are strangers to the sidecar: only the sidecar rejects that now."
        yield case.finding("warning", "relays_beyond_policy", "access_db", text, wanted)
    if narrower := beyond(relaying(case.settings), allowed):
        text = (
            f"{some(narrower)} may relay by the sidecar's settings, but Sendmail rejects that mail before the sidecar is asked."
        )
        yield case.finding("error", "rejected_before_sidecar", "access_db", text, wanted)


def _timeouts(case: SendmailCase) -> Iterator[Finding]:
    """Sendmail waits long enough for an answer."""
    if case.filter is None:
        return
    short = [f"{key}:{time}s" for key, time in case.filter.timeouts.items() if time < _PATIENCE]
    if short:
        text = f"T={';'.join(short)} gives the sidecar up that soon; a busy disk can take longer."
        yield _at(
            case.filter,
            "warning",
            "short_timeout",
            text,
            "In sendmail.mc, write T=S:30s;R:30s;E:5m into its INPUT_MAIL_FILTER.",
        )


def _privacy(case: SendmailCase) -> Iterator[Finding]:
    """Strangers cannot ask for addresses where no milter hears it."""
    option = case.told.options.get("PrivacyOptions")
    flags = {flag.strip().lower() for flag in option.value.split(",")} if option else set()
    if "goaway" not in flags and not {"noexpn", "novrfy"} <= flags:
        text = "Strangers may ask for names with EXPN and VRFY, and no milter hears of it."
        yield case.finding(
            "warning", "address_probing", "PrivacyOptions", text, "In sendmail.mc, add noexpn and novrfy to confPRIVACY_FLAGS."
        )


CHECKS: tuple[Callable[[SendmailCase], Iterator[Finding]], ...] = (
    _milter,
    _failure,
    _promiscuous,
    _recipients,
    _peers,
    _authenticated,
    _class_r,
    _timeouts,
    _privacy,
)


def _at(milter: Filter, level: Level, code: DoctorCode, text: str, fix: str) -> Finding:
    return Finding(level=level, code=code, key=f"X{milter.name}", line=milter.line, text=text, fix=fix)


def _spelled(listening: str) -> str:
    """Write the sidecar's socket as Sendmail wants it: `port@host`."""
    if listening.startswith("unix:"):
        return listening
    host, _, port = listening.removeprefix("inet:").rpartition(":")
    kind = "inet6" if host.startswith("[") else "inet"
    return f"{kind}:{port}@{host.strip('[]')}"
