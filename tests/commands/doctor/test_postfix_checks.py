"""The findings about Postfix's settings: none if they fit, and one for each mistake."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sidecar.commands.doctor.findings import COMPARE
from sidecar.commands.doctor.postfix.checks import check_postfix
from sidecar.commands.export import postfix_relay_domains
from sidecar.core.findings import Finding
from sidecar.core.open_domains import PARENT_MATCHES, POSTFIX_FILE, OpenDomains
from sidecar.core.settings.proof import SignSettings
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import MilterSettings
from tests.building import entry, networks, settings

ENTRIES = (
    entry("example.com", relay_to=True),
    entry("bounce.example.com", log_oob="LogThenDrop"),
    entry("*.wild.example", log_arf="LogThenRelay"),
)
RELAY_HOSTS = ("127.0.0.1", "::1", "192.168.1.0/24")

GOOD: Mapping[str, str | None] = {
    "smtpd_milters": "inet:127.0.0.1:8893",
    "milter_default_action": "tempfail",
    "mynetworks": "127.0.0.0/8 [::1]/128 [::ffff:192.168.1.0]/120",
    "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
    "relay_domains": POSTFIX_FILE,
    "parent_domain_matches_subdomains": PARENT_MATCHES,
    "in_flow_delay": "0s",
    "smtpd_forbid_bare_newline": "normalize",
    "mydestination": "",
}
CHROOTED = "smtp inet n - y - - smtpd\n"
UNIX = "unix:/var/spool/postfix/sidecar/sidecar.sock"


def sidecar(*entries: Any, socket: str | None = None, **milter: Any) -> Settings:
    """Return the sidecar's settings, by default with ENTRIES."""
    made = settings(entries or ENTRIES, relay_hosts=RELAY_HOSTS)
    return msgspec.structs.replace(made, milter=MilterSettings(socket=socket or "inet:127.0.0.1:8893", **milter))


def findings(
    changes: Mapping[str, str | None] | None = None,
    *,
    own: Settings | None = None,
    master: str = "",
    files: Mapping[str, str] | None = None,
) -> list[Finding]:
    """Return the findings about GOOD with some settings changed, or removed (None)."""
    lines = {**GOOD, **(changes or {})}
    text = "".join(f"{key} = {value}\n" for key, value in lines.items() if value is not None) + master
    made = own or sidecar()
    domains = OpenDomains(made)
    exported = {} if domains.rest else {POSTFIX_FILE: postfix_relay_domains(domains, "sidecar export")}
    return check_postfix(text, made, {**exported, **(files or {})}.get)


def brief(found: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.level, finding.key or "") for finding in found]


@pytest.mark.parametrize("master", ["", CHROOTED, "25 inet n - n - - smtpd -o smtpd_client_connection_count_limit=10\n"])
def test_no_findings(master: str) -> None:
    """Settings that fit have no finding, with any part of master.cf."""
    assert findings(master=master) == []


MISTAKES: list[tuple[dict[str, str | None], str, str, str]] = [
    # the sidecar is not asked
    ({"smtpd_milters": None}, "error", "smtpd_milters", "names no milter"),
    ({"smtpd_milters": "inet:127.0.0.1:8891"}, "error", "smtpd_milters", "inet:127.0.0.1:8891"),
    ({"smtpd_milters": "inet:127.0.0.2:8893"}, "error", "smtpd_milters", "inet:127.0.0.2:8893"),
    ({"smtpd_milters": "unix:/run/other.sock"}, "error", "smtpd_milters", "/run/other.sock"),
    ({"smtpd_proxy_filter": "127.0.0.1:2597"}, "error", "smtpd_proxy_filter", "gets no content"),
    ({"receive_override_options": "no_header_body_checks, no_milters"}, "error", "receive_override_options", "never asks"),
    ({"mynetworks": "127.0.0.1 [::1] 0.0.0.0/0"}, "error", "mynetworks", "open relay"),
    ({"mynetworks": "static:all"}, "error", "mynetworks", "open relay"),
    ({"mynetworks": "0.0.0.0/0 hash:/etc/postfix/networks"}, "error", "mynetworks", "open relay"),
    ({"mynetworks": "192.168.1.0/24"}, "warning", "mynetworks", "127.0.0.1"),
    (
        {"smtpd_relay_restrictions": "permit_mynetworks, check_client_access cidr:{{0.0.0.0/0 OK}}, reject_unauth_destination"},
        "warning",
        "smtpd_relay_restrictions",
        "can permit relaying",
    ),
    (
        {"smtpd_milters": "{ inet:127.0.0.1:8893, default_action=tempfail, command_timeout=1s }"},
        "warning",
        "smtpd_milters",
        "waits 1 s",
    ),
    ({"smtpd_milters": "inet:8893@127.0.0.1"}, "error", "smtpd_milters", "smtpd ends with a fatal error"),
    ({"smtpd_milters": "inet:127.0.0.1:8893 { inet:8891@localhost }"}, "error", "smtpd_milters", "inet:8891@localhost"),
    ({"smtpd_milters": "inet:127.0.0.1:8893 inet:127.0.0.1"}, "error", "smtpd_milters", "expects HOST:PORT"),
    ({"non_smtpd_milters": "inet:8891@[::1]"}, "error", "non_smtpd_milters", "cleanup ends with a fatal error"),
    ({"smtpd_milters": "inet:127.0.0.1:8893 inet:localhost:8893"}, "error", "smtpd_milters", "two records"),
    # proxies
    (
        {"smtpd_authorized_xclient_hosts": "192.168.1.0/28, 10.0.0.7"},
        "error",
        "smtpd_authorized_xclient_hosts",
        "192.168.1.0/28",
    ),
    ({"smtpd_authorized_xclient_hosts": "127.0.0.1"}, "error", "smtpd_authorized_xclient_hosts", "every external host"),
    ({"smtpd_upstream_proxy_protocol": "haproxy"}, "warning", "smtpd_upstream_proxy_protocol", "PROXY header"),
    (
        {"smtpd_upstream_proxy_protocol": "haproxy", "inet_interfaces": "10.0.0.5, 192.0.43.8"},
        "warning",
        "smtpd_upstream_proxy_protocol",
        "PROXY header",
    ),
    # recipients that Postfix rejects
    ({"relay_recipient_maps": "hash:/etc/postfix/rcpt"}, "error", "relay_domains", "bounce.example.com, *.wild.example"),
    ({"relay_recipient_maps": "ldap:/etc/postfix/ldap.cf"}, "warning", "relay_domains", "cannot read all of them"),
    ({"relay_recipient_maps": "unionmap:{ inline:{ a@b=c } }"}, "warning", "relay_domains", "cannot read all of them"),
    ({"relay_recipient_maps": "pcre:/etc/postfix/body"}, "warning", "relay_domains", "cannot read all of them"),
    (
        {"relay_recipient_maps": "inline:{ @bounce.example.com=x }, hash:/etc/postfix/rcpt"},
        "error",
        "relay_domains",
        "exist in *.wild.example. They",
    ),
    (
        {
            "relay_recipient_maps": "hash:/etc/postfix/rcpt",
            "smtpd_reject_unlisted_recipient": "no",
            "smtpd_sender_restrictions": "reject_unlisted_recipient",
        },
        "error",
        "relay_domains",
        "550 5.1.1",
    ),
    (
        {"smtpd_recipient_restrictions": "reject_unverified_recipient"},
        "error",
        "smtpd_recipient_restrictions",
        "450 to recipients in bounce.example.com, *.wild.example",
    ),
    (
        {
            "smtpd_recipient_restrictions": "check_recipient_access inline:{ bounce.example.com=OK }, "
            "reject_unverified_recipient"
        },
        "warning",
        "smtpd_recipient_restrictions",
        "450 to recipients in *.wild.example",
    ),
    # what happens while it is down
    ({"smtpd_milters": "{ inet:127.0.0.1:8893, {default_action = accept} }"}, "error", "smtpd_milters", "unchecked"),
    ({"milter_default_action": "accept"}, "error", "milter_default_action", "unchecked"),
    ({"milter_default_action": "reject"}, "error", "milter_default_action", "permanently"),
    ({"milter_default_action": "quarantine"}, "error", "milter_default_action", "holds"),
    ({"smtpd_milters": "{ inet:127.0.0.1:8893, default_action=accept }"}, "error", "smtpd_milters", "unchecked"),
    # the relay control
    ({"smtpd_relay_restrictions": "permit_mynetworks"}, "error", "smtpd_relay_restrictions", "open relay"),
    (
        {"smtpd_relay_restrictions": "permit_mynetworks, permit, reject_unauth_destination"},
        "error",
        "smtpd_relay_restrictions",
        "open relay",
    ),
    (
        {"smtpd_relay_restrictions": "", "smtpd_recipient_restrictions": "permit_mynetworks"},
        "error",
        "smtpd_recipient_restrictions",
        "open relay",
    ),
    ({"smtpd_relay_restrictions": None}, "warning", "smtpd_relay_restrictions", "454"),
    # relay_domains
    ({"relay_domains": "static:ALL"}, "error", "relay_domains", "open relay"),
    ({"relay_domains": None}, "error", "relay_domains", "bounce.example.com, example.com, *.wild.example"),
    ({"relay_domains": "example.com, .wild.example"}, "error", "relay_domains", "rejects mail for bounce.example.com before"),
    ({"relay_domains": "hash:/etc/postfix/relay"}, "warning", "relay_domains", "hash:/etc/postfix/relay"),
    ({"relay_domains": "/etc/postfix/missing"}, "warning", "relay_domains", "/etc/postfix/missing"),
    ({"relay_domains": None, "mydestination": None}, "error", "relay_domains", "bounce.example.com"),
    ({"relay_domains": "$other_domains"}, "warning", "relay_domains", "$other_domains"),
    ({"relay_domains": "pcre:/etc/postfix/relay.pcre"}, "warning", "relay_domains", "pcre"),
    ({"relay_domains": f"{POSTFIX_FILE} other.example"}, "warning", "relay_domains", "relays to other.example for any host"),
    # networks
    ({"mynetworks": "127.0.0.0/8 192.168.0.0/16"}, "warning", "mynetworks", "192.168.0.0/24"),
    ({"mynetworks": "127.0.0.0/8 192.168.1.0/25"}, "error", "mynetworks", "192.168.1.128/25"),
    ({"mynetworks": None}, "warning", "mynetworks", "mynetworks is not set"),
    ({"mynetworks": "hash:/etc/postfix/networks"}, "warning", "mynetworks", "hash:/etc/postfix/networks"),
    ({"smtpd_relay_restrictions": "reject_unauth_destination"}, "error", "smtpd_relay_restrictions", "192.168.1.0/24"),
    # the protocol
    ({"milter_protocol": "3"}, "error", "milter_protocol", "451"),
    ({"milter_protocol": "4"}, "warning", "milter_protocol", "the whole body"),
    ({"milter_connect_timeout": "5s"}, "warning", "milter_connect_timeout", "waits 5 s"),
    ({"milter_command_timeout": "9"}, "warning", "milter_command_timeout", "waits 9 s"),
    ({"milter_content_timeout": "1s"}, "warning", "milter_content_timeout", "waits 1 s"),
    # tables that act before the verdict
    ({"recipient_bcc_maps": "hash:/etc/postfix/bcc"}, "warning", "recipient_bcc_maps", "recipients that the sidecar removes"),
    ({"header_checks": "regexp:{ { /^X-A:/ PASS } }"}, "error", "header_checks", "to every recipient"),
    ({"mime_header_checks": "pcre:{ { /^X-A: {1}/i REDIRECT a@b } }"}, "error", "mime_header_checks", "another address"),
    ({"nested_header_checks": "pcre:{ { /a/ WARN }, { /b/ discard } }"}, "warning", "nested_header_checks", "answers 250"),
    ({"body_checks": "proxy:regexp:/etc/postfix/body"}, "error", "body_checks", "in proxy:regexp:/etc/postfix/body."),
    ({"smtpd_client_restrictions": "check_client_access static:DISCARD"}, "warning", "smtpd_client_restrictions", "DISCARD"),
    (
        {"smtpd_sender_restrictions": "check_sender_access inline:{ { a = OK }, { b@c = BCC d@e } }"},
        "warning",
        "smtpd_sender_restrictions",
        "BCC copies",
    ),
    (
        {"smtpd_data_restrictions": "check_client_access cidr:/etc/postfix/clients, reject_unauth_pipelining"},
        "warning",
        "smtpd_data_restrictions",
        "DISCARD",
    ),
    (
        {"smtpd_recipient_restrictions": "permit_mynetworks check_recipient_access hash:/etc/postfix/rcpt"},
        "warning",
        "smtpd_recipient_restrictions",
        "hash:/etc/postfix/rcpt",
    ),
    # the rest
    ({"in_flow_delay": None}, "warning", "in_flow_delay", '"bounce.example.com" (domains.toml:1)'),
    ({"in_flow_delay": "1s"}, "warning", "in_flow_delay", "drops reports"),
    ({"non_smtpd_milters": "$smtpd_milters"}, "warning", "non_smtpd_milters", "on this machine"),
    ({"smtpd_forbid_bare_newline": "no"}, "warning", "smtpd_forbid_bare_newline", "smuggling"),
    ({"smtpd_forbid_bare_newline": None}, "warning", "smtpd_forbid_bare_newline", "smuggling"),
    ({"mydestination": "localhost, mx.example, mail.example.com"}, "error", "mydestination", "mail.example.com"),
    ({"virtual_mailbox_domains": "users.example"}, "error", "virtual_mailbox_domains", "users.example"),
]


TABLES = {
    "/etc/postfix/body": "# PASS\nif /x/\n!/a\\/ PASS b/x\n  PASS\nendif\n",
    "/etc/postfix/clients": "203.0.113.0/24\tREJECT\n192.0.2.0/24\tDiscard no thanks\n",
    "/etc/postfix/rcpt": "redirect@example.com OK\nb@example.com\n    BCC copy@example.com\n",
}


@pytest.mark.parametrize(("changes", "level", "key", "words"), MISTAKES)
def test_mistake(changes: Mapping[str, str | None], level: str, key: str, words: str) -> None:
    """Each mistake is one finding, at its own setting, with a fix."""
    (found,) = findings(changes, files=TABLES)
    assert (found.level, found.key) == (level, key)
    assert words in found.text
    assert found.fix.endswith(".")


FITTING: list[dict[str, str | None]] = [
    {"smtpd_authorized_xclient_hosts": "10.0.0.7"},
    {"smtpd_upstream_proxy_protocol": "haproxy", "inet_interfaces": "10.0.0.5 [fd00::5], loopback-only"},
    {"relay_domains": "", "virtual_mailbox_domains": "pgsql:/etc/postfix/domains"},
    {"smtpd_milters": "inet:localhost:8893"},
    {"smtpd_milters": "inet:127.0.0.1:8891, inet:127.0.0.1:8893"},
    {"smtpd_milters": "{ inet:127.0.0.1:8893, connect_timeout=10s, default_action=tempfail }"},
    {"smtpd_milters": "$own", "own": "inet:127.0.0.1:8893"},
    {"milter_default_action": None},
    {"mynetworks": "!192.168.1.77, 192.168.1.0/24, 127.0.0.1, [::1]"},
    {"relay_domains": "bounce.example.com example.com .wild.example"},
    {"relay_domains": ".wild.example bounce.example.com", "virtual_mailbox_domains": "example.com"},
    {
        "relay_domains": "example.com .wild.example",
        "virtual_alias_domains": "bounce.example.com",
        "virtual_alias_maps": "inline:{ { @bounce.example.com = b@example.net } }",
    },
    {"relay_domains": "example.com .wild.example", "mydestination": "bounce.example.com", "local_recipient_maps": ""},
    {"relay_domains": "!x.example.com, bounce.example.com example.com, .wild.example"},
    {"smtpd_relay_restrictions": "", "smtpd_recipient_restrictions": "permit_mynetworks reject_unauth_destination"},
    {"in_flow_delay": "0"},
    {"recipient_bcc_maps": "hash:/etc/postfix/bcc", "receive_override_options": "no_address_mappings"},
    {"always_bcc": "copy@example.com", "sender_bcc_maps": "static:copy@example.com"},
    {"virtual_alias_maps": "inline:{ { a@example.com = b@example.net } }"},
    {"header_checks": "regexp:{ { /a/ PASS } }", "receive_override_options": "no_header_body_checks"},
    {"header_checks": "regexp:{ { /PASS/ REJECT REDIRECT a@b }, { /a/ WARN PASS } } mysql:/etc/postfix/mysql.cf"},
    {"body_checks": "regexp:/etc/postfix/unreadable", "milter_header_checks": "static:PASS"},
    {"smtpd_client_restrictions": "check_client_access static:{PREPEND X-A: DISCARD}, reject_unknown_client_hostname"},
    {"smtpd_sender_restrictions": "check_sender_access", "smtpd_helo_restrictions": "check_helo_access inline:{}"},
    {"non_smtpd_milters": "inet:127.0.0.1:8891"},
    {"milter_default_action": "accept", "smtpd_milters": "{ inet:127.0.0.1:8893, default_action=tempfail }, inet:[::1]:8891"},
    {"smtpd_milters": "inet:127.0.0.1:8893, { inet:localhost:8891, default_action=accept, command_timeout=1s }"},
    {"milter_protocol": "2", "smtpd_milters": "{ inet:127.0.0.1:8893, protocol=6 }"},
    {"relay_recipient_maps": "static:all"},
    {"relay_recipient_maps": "inline:{ a@b=c }", "smtpd_reject_unlisted_recipient": "no"},
    {"relay_recipient_maps": "inline:{ a@b=c }", "virtual_alias_maps": "inline:{ @bounce.example.com=x }, static:all"},
    {"smtpd_recipient_restrictions": "check_recipient_access hash:/etc/postfix/ok, reject_unverified_recipient"},
    {"smtpd_recipient_restrictions": "check_recipient_access mysql:/etc/postfix/my.cf, reject_unverified_recipient"},
    {"smtpd_forbid_bare_newline": None, "mail_version": "3.9.1"},
    {"smtpd_forbid_bare_newline": None, "mail_version": "3.12-20260101"},
    {"smtpd_forbid_bare_newline": "yes"},
    {"content_filter": "smtp-amavis:[127.0.0.1]:10024"},
]
FILES = {
    "/etc/postfix/ok": "bounce.example.com OK\n.wild.example\tpermit\n",
}


@pytest.mark.parametrize("changes", FITTING)
def test_fitting(changes: Mapping[str, str | None]) -> None:
    """Other settings with the same meaning have no finding."""
    assert findings(changes, files=FILES) == []


def test_table() -> None:
    """A table is compared by its source, without the values."""
    source = "# comment\nexample.com ok\nbounce.example.com\tok\n.wild.example ok\n"
    for kind in ("texthash", "hash", "lmdb", "proxy:hash"):
        assert findings({"relay_domains": f"{kind}:/etc/postfix/relay"}, files={"/etc/postfix/relay": source}) == []


def test_parent_domains() -> None:
    """With Postfix's default a plain name includes the names below it, and a dotted one matches nothing. Both are findings."""
    found = findings({"parent_domain_matches_subdomains": None})
    assert brief(found) == [("error", "relay_domains"), ("warning", "relay_domains")]
    assert "*.wild.example" in found[0].text
    assert "relays to *.example.com for any host" in found[1].text
    assert all(f"parent_domain_matches_subdomains = {PARENT_MATCHES}." in finding.fix for finding in found)


ACCEPTS = "{ inet:127.0.0.1:8893, default_action=accept }"
BOTH = "{ inet:127.0.0.1:8893, default_action=tempfail } inet:127.0.0.1:11332"


@pytest.mark.parametrize(
    ("table", "expected", "text"),
    [
        # relay hosts
        (f"192.168.1.7 {ACCEPTS}\n127.0.0.1/32 {ACCEPTS}\n", [], ""),
        ("192.168.1.0/24 DISABLE\n", [("warning", "milter_bypassed")], "the relay hosts 192.168.1.0/24, Postfix does not ask"),
        ("::1 inet:127.0.0.1:8891\n", [("warning", "milter_bypassed")], "no records of their mail"),
        ("192.168.1.7 {inet:127.0.0.1:8893, default_action=reject}\n", [("error", "unsafe_default_action")], "rejects mail"),
        # external hosts
        ("192.168.0.0/16 DISABLE\n", [("error", "milter_bypassed")], "the external hosts 192.168.0.0/24, 192.168.2.0/23, "),
        ("203.0.113.9 inet:127.0.0.1:8891\n", [("error", "milter_bypassed")], "the external hosts 203.0.113.9, Postfix uses"),
        (f"2001:db8::/32 {ACCEPTS}\n", [("error", "unsafe_default_action")], "accept is not safe for 2001:db8::/32: while"),
        (f"0.0.0.0/0 {BOTH}\n", [], ""),
        ("0.0.0.0/0 inet:127.0.0.1:8893\n", [], ""),
        ("if 10.0.0.0/8\n", [("warning", "unreadable_table")], "cannot read cidr:/maps"),
    ],
)
def test_milters_of_some_hosts(table: str, expected: list[tuple[str, str]], text: str) -> None:
    """External hosts that pass the sidecar are an error, relay hosts a warning, and relay hosts that do not wait are fine."""
    found = findings({"smtpd_milter_maps": "cidr:/maps"}, files={"/maps": table})
    assert [(each.level, each.code) for each in found] == expected
    assert all(text in each.text and each.key == "smtpd_milter_maps" for each in found)


@pytest.mark.parametrize(
    ("maps", "level"),
    [
        ("static:{DISABLE}", "error"),
        (f"static:{{{ACCEPTS}}}", "error"),
        ("cidr:{{0.0.0.0/0 DISABLE}}", "error"),
        ("inline:{{192.168.1.7=disable}}", "warning"),
        ("hash:/etc/postfix/missing", "warning"),
        ("regexp:{{/^10/ DISABLE}}", "warning"),
    ],
)
def test_tables_of_milters(maps: str, level: str) -> None:
    """Tables of other kinds; the doctor says so if it cannot read one."""
    (found,) = findings({"smtpd_milter_maps": maps})
    assert (found.level, found.key) == (level, "smtpd_milter_maps")


def test_an_old_export() -> None:
    """The fix is the command that makes the file in relay_domains again. Domains of other entries are removed by hand."""
    old = postfix_relay_domains(
        OpenDomains(sidecar(*ENTRIES[1:], entry("old.example", relay_to=True))), "sidecar export postfix"
    )
    again = "sidecar export postfix --output {} && postfix reload."
    for file in (POSTFIX_FILE, "/etc/postfix/other"):
        fix = f"{file} is older than the listener domains. Run the export again: {again.format(file)}"
        rejected, relayed = findings({"relay_domains": file}, files={file: old})
        assert ("example.com before" in rejected.text, rejected.fix) == (True, fix)
        assert ("relays to old.example for" in relayed.text, relayed.fix) == (True, fix)
        _, relayed = findings({"relay_domains": f"{file} mine.example"}, files={file: old})
        assert "relays to mine.example, old.example for" in relayed.text
        assert relayed.fix == f"{fix} {COMPARE} Otherwise remove them from relay_domains."


def test_a_new_export() -> None:
    """An export of these settings is no fault, also with an IDN, and no fix says to make it again."""
    own = sidecar(*ENTRIES, entry("xn--bcher-kva.example", relay_to=True))
    assert findings(own=own) == []
    (rejected,) = findings({"relay_domains": f"!example.com {POSTFIX_FILE}"})
    assert rejected.fix == f"Write {POSTFIX_FILE} before the other entries of relay_domains."
    (relayed,) = findings({"relay_domains": f"{POSTFIX_FILE} other.example"}, own=own)
    assert relayed.fix == f"{COMPARE} Otherwise remove them from relay_domains."
    (unread,) = findings({"relay_domains": f"{POSTFIX_FILE} ldap:/etc/postfix/ldap.cf"})
    assert unread.fix == "Check that the sidecar accepts mail for each domain in it."


def test_a_missing_export() -> None:
    """The fix is the command alone, because relay_domains has the file."""
    text = "".join(f"{key} = {value}\n" for key, value in GOOD.items())
    (found,) = check_postfix(text, sidecar(), lambda _: None, Path("/etc/sidecar/sidecar.toml"))
    command = f"sidecar export postfix --config /etc/sidecar/sidecar.toml --output {POSTFIX_FILE}"
    assert (found.code, found.fix) == ("unreadable_table", f"Make {POSTFIX_FILE} with: {command}.")


def test_everything_open() -> None:
    """With a "*" that accepts mail there is no relay control to write, whether relay_domains has it or not."""
    own = sidecar(entry("*", log_oob="LogThenRelay"))
    for value in ("static:ALL", "example.com"):
        (found,) = findings({"relay_domains": value}, own=own)
        assert (found.level, found.key) == ("error", "relay_domains")
        assert '"*" (domains.toml:1)' in found.text


def test_senders() -> None:
    """Postfix must let peers relay that the sidecar allows by the sender's domain: by network, or by login."""
    by_network = sidecar(*ENTRIES, entry("send.example", relay_from=["10.0.0.0/24"]))
    assert brief(findings(own=by_network)) == [("error", "mynetworks")]
    assert findings({"mynetworks": "127.0.0.1 192.168.1.0/24 10.0.0.0/24"}, own=by_network) == []
    by_login = sidecar(*ENTRIES, entry("auth.example", relay_from_authz=["daniel"]))
    assert brief(findings(own=by_login)) == [("warning", "smtpd_relay_restrictions")]
    words = "permit_mynetworks permit_sasl_authenticated reject_unauth_destination"
    assert findings({"smtpd_relay_restrictions": words}, own=by_login) == []


SOCKETS = [
    # (the sidecar's socket, what main.cf says, master.cf, findings)
    (UNIX, "unix:sidecar/sidecar.sock", CHROOTED, []),
    (UNIX, "unix:/sidecar/sidecar.sock", CHROOTED, []),
    (UNIX, "local:sidecar/sidecar.sock", CHROOTED, []),
    (UNIX, "unix:sidecar/sidecar.sock", "", []),
    (UNIX, UNIX, "", []),
    (UNIX, UNIX, "smtp inet n - n - - smtpd\n", []),
    (UNIX, UNIX, CHROOTED, [("error", "smtpd_milters")]),
    ("unix:/run/sidecar.sock", "unix:/run/sidecar.sock", CHROOTED, [("error", "smtpd_milters")]),
    ("unix:/run/sidecar.sock", "unix:/run/sidecar.sock", "", [("warning", "smtpd_milters")]),
    ("unix:/run/sidecar.sock", "unix:/run/sidecar.sock", "smtp inet n - n - - smtpd\n", []),
    ("inet:0.0.0.0:8893", "inet:10.1.1.1:8893", CHROOTED, []),
    ("inet:[::1]:8893", "inet:[::1]:8893", CHROOTED, []),
    ("inet:[::1]:8893", "inet:127.0.0.1:8893", CHROOTED, [("error", "smtpd_milters")]),
]


@pytest.mark.parametrize(("listening", "named", "master", "expected"), SOCKETS)
def test_sockets(listening: str, named: str, master: str, expected: list[tuple[str, str]]) -> None:
    """In a chroot a path begins in the queue directory. A socket that smtpd cannot reach is a finding."""
    own = sidecar(socket=listening, socket_group="postfix")
    assert brief(findings({"smtpd_milters": named}, own=own, master=master)) == expected


def test_socket_rights() -> None:
    """A UNIX socket that user postfix cannot write to is a warning."""
    for milter, expected in (
        ({}, 1),
        ({"socket_group": "mail"}, 1),
        ({"socket_group": "postfix", "socket_mode": 0o600}, 1),
        ({"socket_group": "postfix"}, 0),
        ({"socket_owner": "postfix", "socket_mode": 0o600}, 0),
        ({"socket_mode": 0o666}, 0),
    ):
        own = sidecar(socket=UNIX, **milter)
        assert len(findings({"smtpd_milters": "unix:sidecar/sidecar.sock"}, own=own)) == expected, milter


def test_services() -> None:
    """The overrides of a service count, and the finding names it. A service on loopback is not checked."""
    master = (
        "smtp inet n - n - - smtpd\n"
        "submission inet n - n - - smtpd\n"
        "  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject\n"
        "2525 inet n - n - - smtpd\n"
        "  -o { milter_default_action = accept }\n"
        "127.0.0.1:10025 inet n - n - - smtpd -o smtpd_milters=\n"
        "smtp unix - - n - - smtp\n"
    )
    (found,) = findings(master=master)
    assert (found.level, found.key) == ("error", "milter_default_action")
    assert found.text.startswith("Of 2525 in master.cf: ")


def test_one_fault_twice() -> None:
    """A fault that one service has twice is one finding, and the finding names that service."""
    words = "check_client_access inline:{ { a = OK }, { b = BCC d@e }, { c = BCC f@g } }"
    master = "smtp inet n - n - - smtpd\n2525 inet n - n - - smtpd -o smtpd_sender_restrictions=\n"
    (found,) = findings({"smtpd_sender_restrictions": words}, master=master)
    assert found.text.startswith("Of smtp in master.cf: ")


MASTER = [
    # (the options of one more smtpd, findings)
    ("-o smtpd_milters={inet:127.0.0.1:8893,default_action=accept}", [("error", "smtpd_milters")]),
    ("-o {smtpd_milters={ inet:127.0.0.1:8893, default_action=accept }}", [("error", "smtpd_milters")]),
    ("-o { smtpd_milters = { inet:127.0.0.1:8893, default_action=tempfail } inet:[::1]:8891 }", []),
    ("-o{milter_default_action=accept}", [("error", "milter_default_action")]),
    ("-v -o smtpd_milters=inet:localhost:8891", [("error", "smtpd_milters")]),
    ("-o {smtpd_milters={ inet:localhost:8891, default_action=accept }}", [("error", "smtpd_milters")]),
    ("-o smtpd_milters=inet:8893@localhost", [("error", "smtpd_milters")]),
    ("-o smtpd_milters= -o smtpd_relay_restrictions=permit_sasl_authenticated,reject", [("warning", "smtpd_milters")]),
    ("-o", []),
]


@pytest.mark.parametrize(("options", "expected"), MASTER)
def test_options(options: str, expected: list[tuple[str, str]]) -> None:
    """The options of a service count, also with braces in braces. A service that asks only other milters is a finding."""
    found = findings(master=f"smtp inet n - n - - smtpd\n2525 inet n - n - - smtpd\n    {options}\n")
    assert brief(found) == expected
    assert all(finding.text.startswith("Of 2525 in master.cf: ") for finding in found)


REINJECTING = [
    ("", "127.0.0.1", [("warning", "receive_override_options")]),
    ("", "192.0.2.1", [("error", "receive_override_options")]),
    ("-o smtpd_milters=inet:127.0.0.1:8891", "192.0.2.1", []),
    ("-o receive_override_options=no_header_body_checks,no_milters", "192.0.2.1", []),
    ("-o smtpd_milters=", "192.0.2.1", []),
]


@pytest.mark.parametrize(("options", "relay_host", "expected"), REINJECTING)
@pytest.mark.parametrize("where", ["main.cf", "master.cf"])
def test_content_filter(where: str, options: str, relay_host: str, expected: list[tuple[str, str]]) -> None:
    """A content filter must not return its mail through the sidecar."""
    own = msgspec.structs.replace(sidecar(), relay_hosts=networks(relay_host))
    value, mynetworks = "smtp-amavis:[127.0.0.1]:10024", {"mynetworks": f"127.0.0.0/8 {relay_host}"}
    public = "smtp inet n - n - - smtpd" + (f" -o content_filter={value}" if where == "master.cf" else "")
    master = f"{public}\n127.0.0.1:10025 inet n - n - - smtpd -o content_filter= {options}\n"
    found = findings(mynetworks | ({"content_filter": value} if where == "main.cf" else {}), own=own, master=master)
    assert brief(found) == expected
    assert all(finding.fix.startswith("In master.cf, add -o smtpd_milters= to 127.0.0.1:10025, ") for finding in found)


def test_local_mail() -> None:
    """If the loopback is no relay host, mail of this machine is rejected and stays in the queue: an error."""
    own = msgspec.structs.replace(sidecar(), relay_hosts=networks("192.168.1.0/24"))
    (found,) = findings({"non_smtpd_milters": "$smtpd_milters"}, own=own)
    assert (found.level, found.code, found.key) == ("error", "local_mail", "non_smtpd_milters")
    assert "stays in the maildrop queue" in found.text


@pytest.mark.parametrize("key", ["mydestination", "virtual_mailbox_domains", "virtual_alias_domains"])
def test_mailboxes(key: str) -> None:
    """Domains with mailboxes: reports to unknown users are rejected by Postfix, and ordinary mail by the sidecar."""
    tables = {"virtual_mailbox_maps": "inline:{ a@b=c }", "virtual_alias_maps": "inline:{ a@b=c }"}
    domains = {key: "bounce.example.com", "relay_domains": "example.com .wild.example"}
    found = findings({**tables, **domains})
    assert [finding.code for finding in found] == ["unlisted_recipients", "closed_domain"]
    assert {finding.level for finding in found} == {"error"}
    with_mailboxes = sidecar(*ENTRIES[::2], entry("bounce.example.com", log_oob="LogThenRelay", relay_to=True))
    (unlisted,) = findings({**tables, **domains, "in_flow_delay": "1s"}, own=with_mailboxes)
    assert (unlisted.level, unlisted.code, unlisted.key) == ("warning", "unlisted_recipients", key)


@pytest.mark.parametrize(
    ("service", "expected"), [("10.0.0.5:25", []), ("25", ["proxy_trusted"]), ("192.0.43.8:25", ["proxy_trusted"])]
)
def test_proxies(service: str, expected: list[str]) -> None:
    """The address of a service in master.cf decides who can send a PROXY header."""
    master = f"{service} inet n - n - - smtpd -o smtpd_upstream_proxy_protocol=haproxy\n"
    assert [finding.code for finding in findings(master=master)] == expected


def test_unreadable_mailboxes() -> None:
    """If no listener domain has relay_to, the ordinary mail of all mailboxes is rejected, whatever their domains."""
    changes = {"virtual_mailbox_domains": "mysql:/etc/postfix/domains.cf"}
    (found,) = findings(changes, own=sidecar(ENTRIES[1], ENTRIES[2]))
    assert (found.level, found.code) == ("error", "closed_domain")
    assert "mysql:/etc/postfix/domains.cf" in found.text
    assert findings(changes) == []


def test_fixes_keep_what_exists() -> None:
    """A fix adds to a list that has other words, and does not replace it."""
    changes: dict[str, str | None] = {
        "smtpd_milters": "inet:127.0.0.1:8891",
        "relay_domains": "other.example",
        "mynetworks": "127.0.0.0/8",
    }
    fixes = {(finding.code, finding.key): finding.fix for finding in findings(changes)}
    assert fixes["milter_missing", "smtpd_milters"] == "Begin smtpd_milters with inet:127.0.0.1:8893."
    assert fixes["rejected_before_sidecar", "relay_domains"].startswith(f"Add {POSTFIX_FILE} to relay_domains, and make ")
    assert fixes["rejected_before_sidecar", "mynetworks"] == "Add to mynetworks: 192.168.1.0/24 [::1]/128."
    (action,) = findings({"smtpd_milters": "inet:127.0.0.1:8893 inet:[::1]:8891", "milter_default_action": "accept"})
    assert action.fix == "In smtpd_milters, write { inet:127.0.0.1:8893, default_action=tempfail }."


def test_errors_come_first() -> None:
    """Errors are first, in any order of the settings."""
    found = findings({"in_flow_delay": None, "milter_protocol": "4", "milter_default_action": "accept", "smtpd_milters": None})
    assert brief(found)[:2] == [("error", "smtpd_milters"), ("error", "milter_default_action")]
    assert {level for level, _ in brief(found)[2:]} == {"warning"}


def test_line() -> None:
    """A finding has the line of its setting, and none if the setting is missing."""
    (found,) = findings({"smtpd_milters": "inet:127.0.0.1:1"})
    assert found.line == 1
    (found,) = findings({"in_flow_delay": None})
    assert found.line is None


@pytest.mark.parametrize(
    "text", ["", "\0\0", "=\n= =\n x\n", "a = $a\nb = $c\nc = $b$b$b$b\nrelay_domains = $a $b\n", "{ { }\n", "x"]
)
def test_any_text(text: str) -> None:
    """Any text has an answer: it does not name the sidecar."""
    assert ("error", "smtpd_milters") in brief(check_postfix(text, sidecar(), lambda _path: None))


def test_an_override_is_fixed_in_master_cf() -> None:
    """The fix for an override of a service is in master.cf; main.cf is right."""
    (found,) = findings(master="smtp inet n - n - - smtpd -o smtpd_milters=\n")
    assert found.key == "smtpd_milters"
    assert found.fix.startswith("In master.cf, remove -o smtpd_milters from smtp.")
    (found,) = findings(master="smtp inet n - n - - smtpd -o smtpd_milters=inet:127.0.0.1:8891\n")
    assert found.fix == "In master.cf, begin -o smtpd_milters of smtp with inet:127.0.0.1:8893."


def test_the_action_of_one_milter() -> None:
    """The fix for an action inside smtpd_milters keeps the milter's address."""
    (found,) = findings({"smtpd_milters": "{ inet:127.0.0.1:8893, default_action=accept }"})
    assert found.fix == "In smtpd_milters, write default_action=tempfail instead of accept."


def test_a_domain_that_is_listed_is_opened_where_it_stands() -> None:
    """The fix names the table of a listed domain, and has lines only for the others."""
    own = sidecar(entry("bounce.example.com", log_oob="LogThenDrop"))
    for domains, fix in (
        ("bounce.example.com", 'add relay_to = true to "bounce.example.com" (domains.toml:1). Otherwise'),
        (
            "bounce.example.com mail.example.com",
            (
                'add relay_to = true to "bounce.example.com" (domains.toml:1), and these lines to the listener domains: '
                '["mail.example.com"], relay_to = true. Otherwise'
            ),
        ),
    ):
        (found,) = (each for each in findings({"mydestination": domains}, own=own) if each.code == "closed_domain")
        assert fix in found.fix


def test_a_proposed_domain_keeps_what_other_names_have() -> None:
    """A new name below a wildcard hides it from the names below; a further table keeps what these have."""
    own = sidecar(entry("*.example.com", relay_from=["10.0.0.0/24"]))
    found = [each for each in findings({"mydestination": "mail.example.com"}, own=own) if each.code == "closed_domain"]
    assert [each.fix.partition(": ")[2] for each in found] == [
        (
            '["mail.example.com"], relay_to = true, relay_from = ["10.0.0.0/24"], '
            '["*.mail.example.com"], relay_from = ["10.0.0.0/24"]. Otherwise remove them from mydestination.'
        )
    ]


@pytest.mark.parametrize(
    ("milters", "sign", "expected"),
    [
        ("inet:127.0.0.1:8891 inet:127.0.0.1:8893", SignSettings(), ["inet:127.0.0.1:8891"]),
        ("unix:/a, { inet:b:1 }, inet:127.0.0.1:8893", SignSettings(), ["unix:/a, inet:b:1"]),
        (
            "inet:127.0.0.1:8891 inet:127.0.0.1:8893",
            SignSettings(header=False, cfbl_address="a@b.test"),
            ["inet:127.0.0.1:8891"],
        ),
        ("inet:127.0.0.1:8891 inet:127.0.0.1:8893", SignSettings(header=False, address=True, domains=("a.test",)), []),
        ("inet:127.0.0.1:8891 inet:127.0.0.1:8893", None, []),
        ("inet:127.0.0.1:8893 inet:127.0.0.1:8891", SignSettings(), []),
    ],
)
def test_the_order_of_signing(milters: str, sign: SignSettings | None, expected: list[str]) -> None:
    """A sidecar that adds header fields comes first; one that changes the envelope only can be anywhere."""
    found = findings({"smtpd_milters": milters}, own=msgspec.structs.replace(sidecar(), sign=sign))
    assert [(one.level, one.code) for one in found] == [("warning", "signed_too_late")] * len(expected)
    assert all(f"asks {before} before the sidecar" in one.text for one, before in zip(found, expected, strict=True))
