"""The findings about Sendmail's settings: none if they fit, and one for each mistake."""

from collections.abc import Mapping

import msgspec
import pytest

from sidecar.commands.doctor.sendmail import address_set, read_sendmail
from sidecar.commands.doctor.sendmail_checks import check_sendmail
from sidecar.commands.export import sendmail_access
from sidecar.core.findings import Finding
from sidecar.core.open_domains import OpenDomains
from sidecar.core.settings.proof import SignSettings
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import MilterSettings
from tests.building import entry, settings

ENTRIES = (
    entry("example.com", relay_to=True),
    entry("bounce.example.com", log_oob="LogThenDrop"),
    entry("*.wild.example", log_arf="LogThenRelay"),
)
OWN = settings(ENTRIES, relay_hosts=("127.0.0.1", "::1", "192.168.1.0/24"))
CONNECT = "Connect:192.168.1\tRELAY\n"

GOOD = """\
# the lines of a sendmail.cf that matter, in its own syntax
Cwlocalhost
FR-o /etc/mail/relay-domains
Kaccess hash -T<TMPF> /etc/mail/access-and-sidecar
O PrivacyOptions=authwarnings,noexpn,novrfy
O InputMailFilters=other, sidecar
SD
R<?> <$+.$+> <$+> <$- $-> <$*>\t$: < $(access $5:.$2 $: ? $) > <$1.$2>
R<SKIP> <$+> <$+> <$- $-> <$*>\t$@ <$2> <$5>
SRcpt_ok
R$+ < @ $* $=R >\t$@ RELAY
SRelay_ok
R$@\t$@ RELAY
Xother, S=local:/run/other.sock, F=T
Xsidecar, S=inet:8893@127.0.0.1, F=T,
\tT=S:30s;R:30s;E:5m
"""


def findings(
    *changes: tuple[str, str], own: Settings = OWN, access: str | None = None, files: Mapping[str, str] | None = None
) -> list[Finding]:
    """Return the findings about GOOD with some of its text replaced."""
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    domains = OpenDomains(own)
    exported = "" if domains.rest else sendmail_access(domains, "sidecar export")
    made = {"/etc/mail/access-and-sidecar.db": ""}
    held = made | {"/etc/mail/access-and-sidecar": CONNECT + exported if access is None else access, **(files or {})}
    return check_sendmail(text, own, held.get)


def test_no_findings() -> None:
    """Settings that fit have no finding."""
    assert findings() == []


MISTAKES = [
    ("InputMailFilters=other, sidecar", "InputMailFilters=other", "error", "InputMailFilters", "never asks the sidecar"),
    ("S=inet:8893@127.0.0.1", "S=inet:8891@127.0.0.1", "error", "InputMailFilters", "never asks the sidecar"),
    ("S=inet:8893@127.0.0.1", "S=nonsense", "error", "InputMailFilters", "never asks the sidecar"),
    ("127.0.0.1, F=T", "127.0.0.1", "error", "Xsidecar", "unchecked"),
    ("127.0.0.1, F=T", "127.0.0.1, F=R", "error", "Xsidecar", "permanently"),
    ("S:30s;R:30s", "S:5s;R:30s", "warning", "Xsidecar", "T=S:5s"),
    ("authwarnings,noexpn,novrfy", "authwarnings", "warning", "PrivacyOptions", "EXPN"),
    ("SRelay_ok\n", "", "error", "promiscuous_relay", "open relay"),
    ("Cwlocalhost", "Cwlocalhost\nC{R}example.com", "warning", "relay-domains", "example.com"),
    ("R<?> <$+.$+>", "# R", "error", "access_db", "*.wild.example"),
    ("/etc/mail/access-and-sidecar", "/etc/mail/other", "warning", "access_db", "/etc/mail/other"),
    ("SRelay_ok", "SRelay_ok\nR<?> $+ < @ $=w >\t$@ RELAY\tFROM local", "error", "relay_local_from", "in a local domain"),
    ("SRelay_ok", "SRelay_ok\nR<@> <RELAY>\t\t$@ RELAY\tRELAY FROM sender ok", "error", "relay_mail_from", "From: entry"),
    ("SRelay_ok", "SRelay_ok\nR<$* : $=w . : $*> $*\t$@ RELAY", "warning", "relay_based_on_MX", "MX record"),
    (
        "O InputMail",
        "O DaemonPortOptions=Name=A, Input=other\nO InputMail",
        "error",
        "DaemonPortOptions",
        "listener A",
    ),
    ("O InputMail", "O DaemonPortOptions=Port=25,Name=B, I=\nO InputMail", "error", "DaemonPortOptions", "unchecked"),
    ("Kaccess", "# Kaccess", "error", "access_db", "bounce.example.com, example.com, *.wild.example"),
]


@pytest.mark.parametrize(("old", "new", "level", "key", "words"), MISTAKES)
def test_mistake(old: str, new: str, level: str, key: str, words: str) -> None:
    """Each mistake has a finding at its own setting."""
    found = [one for one in findings((old, new)) if (one.level, one.key) == (level, key)]
    assert any(words in one.text for one in found)
    assert all(one.fix.endswith(".") for one in found)


def test_fitting() -> None:
    """Other settings with the same meaning have no finding."""
    for change in (
        ("authwarnings,noexpn,novrfy", "goaway"),
        ("F=T,", "F=4,"),
        ("T=S:30s;R:30s;E:5m", "T=E:5m"),
        ("inet:8893@127.0.0.1", "inet:8893@localhost"),
    ):
        assert findings(change) == []


DAEMONS = [
    ("Name=MTA", []),
    ("Name=MTA, i=other;sidecar", []),
    ("Name=MTA, Addr=127.0.0.1, I=other", ["DaemonPortOptions"]),
    ("Name=MTA, I=sidecar\nO DaemonPortOptions=Name=L, Addr=127.0.0.1, I=", []),
    ("Name=MTA, I=sidecar\nO DaemonPortOptions=Name=L, Family=inet6, Addr=::1, I=", []),
    ("Name=MTA, I=sidecar\nO DaemonPortOptions=Name=MSA, I=other", ["DaemonPortOptions"]),
]


@pytest.mark.parametrize(("options", "expected"), DAEMONS)
def test_daemons(options: str, expected: list[str]) -> None:
    """Each listener that other machines can reach asks the sidecar, by InputMailFilters or by its own list."""
    found = findings(("O InputMail", f"O DaemonPortOptions={options}\nO InputMail"))
    assert [each.key for each in found] == expected


def test_only_own_lists() -> None:
    """InputMailFilters is not needed if each listener has a list of its own."""
    change = ("O InputMailFilters=other, sidecar", "O DaemonPortOptions=Name=MTA, I=sidecar")
    assert findings(change) == []


def test_missing_map() -> None:
    """Without the map that is made from its source Sendmail answers 451. With -o it needs none."""
    path = "/etc/mail/access-and-sidecar"
    exported = CONNECT + sendmail_access(OpenDomains(OWN), "")

    def found(text: str) -> list[Finding]:
        return check_sendmail(text, OWN, {path: exported}.get)

    (missing,) = found(GOOD)
    assert (missing.level, missing.code, missing.key) == ("error", "unreadable_table", "access_db")
    assert "451" in missing.text
    assert found(GOOD.replace("Kaccess hash", "Kaccess hash -o")) == found(GOOD.replace("Kaccess hash", "Kaccess ldap")) == []


def test_unix_socket() -> None:
    """A UNIX socket is the sidecar's under both of Sendmail's names for one."""
    own = msgspec.structs.replace(OWN, milter=MilterSettings(socket="unix:/run/sidecar/sidecar.sock"))
    for name in ("unix", "local"):
        assert findings(("inet:8893@127.0.0.1", f"{name}:/run/sidecar/sidecar.sock"), own=own) == []


def test_plain_names() -> None:
    """Without the features a plain name relays to all names below it."""
    found = findings(("R<?> <$+.$+>", "# R"), access=f"{CONNECT}To:example.com RELAY\nTo:wild.example RELAY\n")
    assert [(one.level, one.key) for one in found] == [("warning", "access_db")]
    assert "*.example.com" in found[0].text
    assert "wild.example" in found[0].text
    assert "lookupdotdomain" in found[0].fix


def test_class_r_file() -> None:
    """The file of class R counts like the words in sendmail.cf."""
    found = findings(files={"/etc/mail/relay-domains": "# hosts\nother.example\n10.9\n"})
    assert [(one.level, one.key) for one in found] == [
        ("warning", "access_db"),
        ("warning", "access_db"),
        ("warning", "relay-domains"),
    ]
    assert "other.example, *.other.example" in found[0].text
    assert "10.9.0.0/16" in found[1].text


def test_peers() -> None:
    """A relay host that Sendmail does not know is rejected before the sidecar is asked."""
    (found,) = findings(access=sendmail_access(OpenDomains(OWN), "sidecar export"))
    assert (found.level, found.key) == ("error", "access_db")
    assert "192.168.1.0/24" in found.text


def test_logins() -> None:
    """Sendmail must let users relay that log in."""
    own = settings((*ENTRIES, entry("auth.example", relay_from_authz=["daniel"])), relay_hosts=("192.168.1.0/24",))
    (found,) = findings(own=own)
    assert found.key == "TRUST_AUTH_MECH"
    assert findings(("Cwlocalhost", "C{TrustAuthMech}PLAIN LOGIN"), own=own) == []


def test_everything_open() -> None:
    """With a "*" that accepts mail there is no relay control to write."""
    own = settings((entry("*", log_oob="LogThenRelay"),), relay_hosts=("192.168.1.0/24",))
    (found,) = findings(own=own)
    assert (found.level, found.key) == ("error", "access_db")
    assert '"*" (domains.toml:1)' in found.text


@pytest.mark.parametrize(
    ("word", "network"),
    [
        ("10", "10.0.0.0/8"),
        ("10.1.", "10.1.0.0/16"),
        ("192.0.2", "192.0.2.0/24"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("IPv6:2001:db8", "2001:db8::/32"),
        ("IPv6:2001:db8::1", "2001:db8::1/128"),
        ("IPv6:2001:db8:0:0:0:0:0:1", "2001:db8::1/128"),
        ("example.com", None),
        ("10.1.2.3.4", None),
        ("999", None),
        ("IPv6:", None),
        ("", None),
    ],
)
def test_addresses(word: str, network: str | None) -> None:
    """The beginning of an address means its network."""
    assert [str(found) for found in address_set([word]).iter_cidrs()] == ([network] if network else [])


@pytest.mark.parametrize(
    "text",
    ["", "X\nXa\nX,,\n", "O InputMailFilters=a\nXa, T=;S, =\n", "C\nF\nF{R}\nFR-o\nKaccess\nKaccess x\n", "\t\n x\n", "\0"],
)
def test_any_text(text: str) -> None:
    """Any text has an answer: it does not name the sidecar."""
    assert "InputMailFilters" in [found.key for found in check_sendmail(text, OWN, lambda _path: None)]
    assert read_sendmail(text, lambda _path: None).daemons[0].filters == [] or "Xa" in text


def test_the_order_of_signing() -> None:
    """A sidecar that adds header fields comes first; one that changes the envelope only can be anywhere."""
    for sign, expected in ((SignSettings(), 1), (SignSettings(header=False, address=True, domains=("a.test",)), 0)):
        own = msgspec.structs.replace(OWN, sign=sign)
        found = findings(own=own)
        assert [(one.level, one.code) for one in found] == [("warning", "signed_too_late")] * expected
        assert all("asks Xother before Xsidecar" in one.text for one in found)
        assert findings(("InputMailFilters=other, sidecar", "InputMailFilters=sidecar, other"), own=own) == []
