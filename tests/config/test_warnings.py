"""Warnings name probable mistakes, with their place and their fix; other settings have none."""

import grp
import json
import os
import pwd
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config import load
from sidecar.config.findings import Findings
from sidecar.config.warnings import note_warnings
from sidecar.config.warnings.openings import is_wide
from sidecar.core.findings import Finding, WarningCode
from sidecar.core.names import plain_address
from sidecar.core.policy import compile_policy
from tests.building import entry, settings
from tests.config.helpers import MAIN, load_files, place

NO_LISTENER = ""
LISTENER = "127.0.0.1:25"


def domains(*names: str, listener: str = NO_LISTENER) -> str:
    """Write a file with one domain a line, which takes nothing."""
    prefix = f'listener."{listener}".' if listener else ""
    return "".join(f'{prefix}"{name}" = {{ log_oob = false }}\n' for name in names)


def found(folder: Path, files: dict[str, str]) -> tuple[Finding, ...]:
    """Load files without errors, and give the warnings."""
    loaded = load_files(folder, files)
    assert loaded.settings is not None, loaded.problems
    assert {problem.level for problem in loaded.problems} <= {"warning"}
    return loaded.problems


@pytest.mark.parametrize(
    ("names", "listener", "line", "text"),
    [
        (
            ["*.example.com", "omg.wtf.woot.example.com"],
            NO_LISTENER,
            2,
            'Because of this entry "*.example.com" (d.toml:1) does not match "woot.example.com" or "wtf.woot.example.com".',
        ),
        (
            ["a.b.example.com", "*.example.com"],
            NO_LISTENER,
            1,
            'Because of this entry "*.example.com" (d.toml:2) does not match "b.example.com".',
        ),
        (
            ["*.example.com", "*.b.example.com"],
            NO_LISTENER,
            2,
            'Because of this entry "*.example.com" (d.toml:1) does not match "b.example.com".',
        ),
        (
            ["*.example.com", "a.b.example.com"],
            LISTENER,
            2,
            'Because of this entry listener."127.0.0.1:25"."*.example.com" (d.toml:1) does not match "b.example.com".',
        ),
        (
            ["*", "a.com", "b.org", "c.net", "d.info", "e.com"],
            LISTENER,
            1,
            'This entry does not match names below "com", "info", "net" or 1 more, where this listener has other entries.',
        ),
    ],
)
def test_shadows(tmp_path: Path, names: list[str], listener: str, line: int, text: str) -> None:
    """Names that an entry takes from a wildcard by the walk are named, at the entry that does it."""
    (problem,) = found(tmp_path, {"d.toml": domains(*names, listener=listener)})
    assert (problem.code, place(problem)[:2], problem.text) == ("shadowed", ("d.toml", line), text)


@pytest.mark.parametrize(
    ("names", "listener"),
    [
        (["*.example.com", "www.example.com", "*", "example.com"], NO_LISTENER),
        (["*.example.com", "b.example.com", "a.b.example.com"], NO_LISTENER),
        (["*.example.com", "c.example.com", "a.b.c.example.com"], NO_LISTENER),
        (["a.b.example.com", "example.com"], NO_LISTENER),
        (["*", "[192.0.2.1]"], LISTENER),
        (["*"], LISTENER),
        (["*.com", "[192.0.2.1]"], NO_LISTENER),
    ],
)
def test_no_shadow(tmp_path: Path, names: list[str], listener: str) -> None:
    """A wildcard that serves all it seems to serve has no warning."""
    assert found(tmp_path, {"d.toml": domains(*names, listener=listener)}) == ()


def test_a_missed_name_is_told_once(tmp_path: Path) -> None:
    """Many entries below one missed name make one warning, and each further missed name one more."""
    names = ["*.example.com", *(f"{label}.b.example.com" for label in "xyz"), "a.c.b.example.com"]
    assert [
        (place(problem)[1], problem.text.rpartition(" ")[2]) for problem in found(tmp_path, {"d.toml": domains(*names)})
    ] == [
        (2, '"b.example.com".'),
        (5, '"c.b.example.com".'),
    ]


SHARED = "which providers share among their customers (RFC 6598)"
DOMAINS: list[tuple[str, str, int, str, str, str]] = [
    # What opens the server to external hosts.
    (
        '["*"]\nlog_oob = true\nrelay_to = true\n',
        "open_relay",
        3,
        '"*".relay_to',
        "This is an open relay: every host can send any mail to every domain that has no entry.",
        "Write relay_to = false here, and true only for the domains that this server accepts mail for.",
    ),
    (
        '[listener."127.0.0.1:25"."*.com"]\nrelay_to = true\n',
        "open_relay",
        2,
        'listener."127.0.0.1:25"."*.com".relay_to',
        'This is an open relay: every host can send any mail to every domain below "com" that has no entry.',
        "Write relay_to = false here, and true only for the domains that this server accepts mail for.",
    ),
    (
        '["*"]\nlog_arf = true\nlog_oob = true\n',
        "report_relay",
        3,
        '"*".log_oob',
        (
            "External hosts pass RCPT for every domain that has no entry, and what looks like a bounce or feedback report is "
            "relayed there."
        ),
        'Write false here, and name the domains that your reports return to, with "LogThenDrop".',
    ),
    (
        '["*.co.uk"]\nlog_arf = "LogThenRelay"\nlog_oob = "LogThenDrop"\n',
        "report_relay",
        2,
        '"*.co.uk".log_arf',
        (
            'External hosts pass RCPT for every domain below "co.uk" that has no entry, and what looks like a feedback '
            "report is relayed there."
        ),
        'Write false here, and name the domains that your reports return to, with "LogThenDrop".',
    ),
    (
        '["*"]\nlog_oob = "LogThenDrop"\n',
        "wide_reports",
        2,
        '"*".log_oob',
        (
            "External hosts pass RCPT for every domain that has no entry: only the end of a message shows if it is a "
            "bounce report."
        ),
        "Write false here, and name the domains that your reports return to. Do not remove the table: a wider one could relay.",
    ),
    (
        '["a.com"]\nrelay_from = ["0.0.0.0/0"]\n',
        "open_relay",
        2,
        '"a.com".relay_from',
        (
            'This is an open relay: 0.0.0.0/0 matches every host, and a host with an envelope sender in "a.com" can send '
            "any mail to any domain."
        ),
        "Write the addresses of the servers that send for it, or use relay_from_authz instead.",
    ),
    (
        '["*.a.com"]\nrelay_from = ["8.8.0.0/16"]\n',
        "wide_network",
        2,
        '"*.a.com".relay_from',
        (
            "Every host in 8.8.0.0/16, a wide public network, can send any mail to any domain with an envelope sender in a "
            'domain below "a.com".'
        ),
        "Write the addresses of the servers that send for it, or use relay_from_authz instead.",
    ),
    (
        '["*"]\nrelay_from_authz = ["d"]\nrelay_from = ["100.64.0.0/10"]\n',
        "wide_network",
        3,
        '"*".relay_from',
        (
            f"Every host in 100.64.0.0/10, {SHARED}, can send any mail to any domain with an envelope sender in any domain "
            "that has no entry, authenticated or not."
        ),
        "Write the addresses of the servers that send for it, or use relay_from_authz instead.",
    ),
    (
        '["a.com"]\nrelay_from = ["::"]\n',
        "never_matches",
        2,
        '"a.com".relay_from',
        "No peer has the address ::.",
        "Write the right addresses, or remove it.",
    ),
    # What true means.
    (
        '["a.com"]\nrelay_to = false\nlog_oob = true\n',
        "report_loop",
        3,
        '"a.com".log_oob',
        (
            'log_oob = true means "LogThenRelay": the MTA sends the report to the domain\'s MX. If that is this server, '
            "it is a mail loop."
        ),
        'Write "LogThenDrop", or "LogThenRelay" in words if the MTA has another route for this domain.',
    ),
    (
        '["*.a.com"]\nlog_oob = true\nlog_arf = true\n',
        "report_loop",
        2,
        '"*.a.com".log_oob',
        (
            'log_oob = true and log_arf = true mean "LogThenRelay": the MTA sends the report to the domain\'s MX. '
            "If that is this server, it is a mail loop."
        ),
        'Write "LogThenDrop", or "LogThenRelay" in words if the MTA has another route for this domain.',
    ),
    # What serves nothing.
    (
        '["default"]\nlog_oob = "LogThenDrop"\n',
        "never_matches",
        1,
        '"default"',
        'This entry matches only the domain "default". The entry for every other domain is "*".',
        "Write the domains that you mean, or remove the table.",
    ),
    (
        '["gro\u00df.example"]\nrelay_to = true\n',
        "ambiguous_name",
        1,
        '"gro\u00df.example"',
        (
            'Programs disagree about this name: IDNA 2008 reads "xn--gro-7ka.example", IDNA 2003 reads another domain. '
            "The sidecar rejects it in addresses from external hosts; they must use the A-label."
        ),
        'Write "xn--gro-7ka.example", and give external hosts addresses in that spelling.',
    ),
    (
        '["COM"]\nrelay_to = true\n',
        "single_label",
        1,
        '"COM"',
        "This entry matches only addresses such as user@com. A domain in public DNS has more than one label.",
        "Write the complete domain, or leave it if your addresses are that short.",
    ),
    *(
        (
            f'["{name}"]\nrelay_to = true\n',
            "never_matches",
            1,
            f'"{name}"',
            "This entry matches no name: a * is a wildcard only as the whole first label.",
            "Write the * as the whole first label of a name.",
        )
        for name in ("a.*.com", "x*.com", "*com")
    ),
    *(
        (
            f'["{name}"]\nrelay_to = true\n',
            "never_matches",
            1,
            f'"{name}"',
            f"This entry matches no address: an address with an IP is written user@{right}.",
            "Write it in this form.",
        )
        for name, right in (
            ("192.0.2.1", "[192.0.2.1]"),
            ("[2001:db8::1]", "[IPv6:2001:db8::1]"),
            ("[IPv6:192.0.2.1]", "[192.0.2.1]"),
        )
    ),
    *(
        (
            f'[listener."{name}"."a.com"]\nrelay_to = true\n[listener."{name}"."b.com"]\nrelay_to = true\n',
            "never_matches",
            1,
            f'listener."{name}"."a.com"',
            f"No connection ends at {name}, so the settings of this listener have no effect.",
            'Write the address and port that peers connect to, such as "203.0.113.1:25", or set it for every listener.',
        )
        for name in ("0.0.0.0:25", "[::]:25", "10.0.0.1:0", "224.0.0.1:25")
    ),
    *(
        (
            text,
            "no_effect",
            1,
            path,
            "This table sets nothing and has no effect: no wider entry matches the name.",
            'Write what the domain accepts, such as log_oob = "LogThenDrop", or remove the table.',
        )
        for text, path in (
            ('["a.com"]\n["*.b.com"]\nrelay_to = true\n', '"a.com"'),
            ('["*.b.com"]\n["b.com"]\nrelay_to = true\n', '"*.b.com"'),
            ('["[192.0.2.1]"]\n', '"[192.0.2.1]"'),
            ('["*"]\n["b.com"]\nrelay_to = true\n', '"*"'),
            ('[listener."127.0.0.1:25"."a.com"]\n["b.com"]\nrelay_to = true\n', 'listener."127.0.0.1:25"."a.com"'),
        )
    ),
    # What is written twice, or for nothing.
    (
        '[listener."*"."a.com"]\nrelay_to = true\n["a.com"]\nrelay_to = true\n',
        "overridden",
        1,
        'listener."*"."a.com"',
        'The table "a.com" on line 3 replaces this one.',
        "Keep one of the two.",
    ),
    (
        '["a.com"]\nrelay_to = true\nttl = 300\n',
        "deprecated",
        3,
        '"a.com".ttl',
        "ttl has no effect: a reload reads the domains again.",
        "Remove it.",
    ),
]


@pytest.mark.parametrize(("content", "code", "line", "key", "text", "fix"), DOMAINS)
def test_domains(tmp_path: Path, content: str, code: str, line: int, key: str, text: str, fix: str) -> None:
    """Each of these has this one warning, at this line, and still loads."""
    (problem,) = found(tmp_path, {"d.toml": content})
    assert (problem.code, *place(problem)) == (code, "d.toml", line, key)
    assert (problem.text, problem.fix) == (text, fix)


@pytest.mark.parametrize(
    "content",
    [
        '["*"]\nrelay_to = false\nlog_oob = false\nlog_arf = "Ignore"\n',
        '["*"]\nrelay_from_authz = ["daniel"]\n',
        '["*.example.com"]\nrelay_to = true\n["*.internal"]\nrelay_to = true\n',
        '["a.com"]\nlog_oob = "LogThenRelay"\nlog_arf = "LogThenDrop"\n',
        '["a.com"]\nrelay_to = true\nlog_oob = true\nlog_arf = true\n',
        '["localhost"]\nrelay_to = true\n',
        '["xn--gro-7ka.example"]\nrelay_to = true\n["b\u00fccher.example"]\nrelay_to = true\n',
        '["[192.0.2.1]"]\nrelay_to = true\n["[IPv6:2001:db8::1]"]\nrelay_to = true\n["[x400:c]"]\nrelay_to = true\n',
        '["*.a.com"]\nrelay_to = true\n["www.a.com"]\n',
        '["*"]\nlog_oob = false\n["www.a.com"]\n',
        '[listener."127.0.0.1:25"."a.com"]\n["a.com"]\nrelay_to = true\n',
        '[listener."127.0.0.1:25"."x.a.com"]\n["*.a.com"]\nrelay_to = true\n',
        '[listener."127.0.0.1:25"."*.a.com"]\n["x.a.com"]\nrelay_to = true\n',
        '["a.com"]\nrelay_from = ["10.0.0.0/8", "fd00::/8", "8.8.8.0/28", "8.8.8.8", "2600:1:2::/60", "100.64.1.0/24"]\n',
    ],
)
def test_silence(tmp_path: Path, content: str) -> None:
    """What is usual, or a decision in writing, has no warning."""
    assert found(tmp_path, {"d.toml": content}) == ()


@pytest.mark.parametrize(
    ("network", "warned"),
    [
        ("203.0.113.0/24", True),
        ("8.8.8.0/27", True),
        ("8.8.8.0/28", False),
        ("2600:1:2::/48", True),
        ("2600:1:2::/60", False),
        ("192.168.0.0/16", False),
        ("100.64.1.0/24", False),
    ],
)
def test_many_public_hosts_may_forge_a_sender(tmp_path: Path, network: str, warned: bool) -> None:
    """A warning: more public hosts than send for one domain can relay by its name alone, and there is no authz beside it."""
    content = f'["gmail.com"]\nrelay_from = ["{network}"]\n'
    problems = found(tmp_path, {"d.toml": content})
    assert [problem.code for problem in problems] == ["wide_network"] * warned
    assert all(f"Every host in {network}, a public network of more than 16 hosts, can" in problem.text for problem in problems)
    assert found(tmp_path, {"d.toml": f'{content}relay_from_authz = ["a"]\n'}) == ()


@pytest.mark.parametrize(
    ("network", "code"),
    [
        ("0.0.0.0/0", "open_relay"),
        ("::/0", "open_relay"),
        ("::ffff:0:0/96", "open_relay"),
        ("0.0.0.0/1", "wide_network"),
        ("10.0.0.0/7", "wide_network"),
        ("192.168.0.0/15", "wide_network"),
        ("8.8.8.0/23", "wide_network"),
        ("100.64.0.0/10", "wide_network"),
        ("100.0.0.0/8", "wide_network"),
        ("2600::/32", "wide_network"),
        ("fc00::/6", "wide_network"),
        ("0.0.0.0/32", "never_matches"),
        ("::/128", "never_matches"),
        ("::ffff:0.0.0.0", "never_matches"),
        ("8.8.8.0/24", None),
        ("8.8.8.8", None),
        ("100.64.0.1", None),
        ("10.0.0.0/8", None),
        ("127.0.0.0/8", None),
        ("169.254.0.0/16", None),
        ("172.16.0.0/12", None),
        ("192.168.0.0/16", None),
        ("2600:1:2::/48", None),
        ("fc00::/7", None),
        ("fe80::/10", None),
        ("::1", None),
    ],
)
@pytest.mark.parametrize("table", ["", '[listener."127.0.0.1:25"]\n'])
def test_relay_hosts(tmp_path: Path, table: str, network: str, code: str | None) -> None:
    """A wide network in relay hosts has a warning, in every listener's list; single and own addresses have none."""
    problems = found(tmp_path, {MAIN: f'{table}relay_hosts = ["127.0.0.1", "{network}"]\n'})
    assert [problem.code for problem in problems] == ([code] if code else [])
    for problem in problems:
        assert place(problem)[1] == table.count("\n") + 1
        assert problem.text.count(network)


@pytest.mark.parametrize(
    ("domain", "wide"),
    [
        ("*", True),
        ("*.com", True),
        ("*.museum", True),
        ("*.co.uk", True),
        ("*.com.br", True),
        ("*.xn--p1ai", True),
        ("*.example", False),
        ("*.local", False),
        ("*.example.com", False),
        ("*.com.example", False),
        ("*.a.co.uk", False),
        ("*.co.a.uk", False),
        ("com", False),
        ("*com", False),
        ("co.uk", False),
        ("[192.0.2.1]", False),
    ],
)
def test_wide(domain: str, *, wide: bool) -> None:
    """A wildcard is wide if external hosts have their domains below it."""
    assert is_wide(domain) is wide


def test_a_listener_of_the_settings_file(tmp_path: Path) -> None:
    """A listener with own relay hosts is checked like one with domains, and has one warning for both."""
    files = {
        MAIN: 'listener_domains = "d.toml"\n[listener."[::]:25"]\nrelay_hosts = ["10.0.0.1"]\n',
        "d.toml": '[listener."[::]:25"."a.com"]\nrelay_to = true\n',
    }
    (problem,) = found(tmp_path, files)
    assert (problem.code, place(problem)) == ("never_matches", (MAIN, 3, 'listener."[::]:25".relay_hosts'))


def test_a_later_file_that_changes_a_value(tmp_path: Path) -> None:
    """A key that a later file changes has a warning with both places; the same value, or another key, has none."""
    files = {
        "a.toml": '["a.com"]\nrelay_to = true\nlog_oob = "LogThenDrop"\nrelay_from = ["10.0.0.1"]\n',
        "b.json": '{"A.com": {"relay_to": true,\n"log_oob": "Ignore",\n"log_arf": "LogThenDrop"}}',
        "c.toml": '["a.com"]\nrelay_from = ["10.0.0.1"]\n',
    }
    (problem,) = found(tmp_path, files)
    assert (problem.code, place(problem)) == ("overridden", ("a.toml", 3, '"a.com".log_oob'))
    assert problem.text == 'This has no effect, because "A.com".log_oob (b.json:2) is later and has another value.'


@pytest.mark.parametrize(
    ("later", "codes"),
    [
        ('["a.com"]\nlog_oob = "LogThenDrop"\n', ["overridden"]),
        ('["a.com"]\nlog_arf = "LogThenDrop"\n', ["report_loop"]),
        ('["a.com"]\nrelay_to = true\n', []),
    ],
)
def test_only_a_true_that_holds_is_told(tmp_path: Path, later: str, codes: list[str]) -> None:
    """What a later file makes of a `true` counts, not what the first had."""
    problems = found(tmp_path, {"a.toml": '["a.com"]\nlog_oob = true\n', "b.toml": later})
    assert [problem.code for problem in problems] == codes


def test_a_file_named_twice(tmp_path: Path) -> None:
    """A file that is named again, also under another name, has a warning at that place."""
    content = '["a.com"]\nrelay_to = true\n'
    (tmp_path / "c.toml").symlink_to("a.toml")
    main = 'listener_domains = [\n"a.toml",\n"b.toml",\n"c.toml",\n"a.toml"]\n'
    problems = found(tmp_path, {MAIN: main, "a.toml": content, "b.toml": '["b.com"]\nrelay_to = true\n'})
    assert [(problem.code, place(problem), problem.text) for problem in problems] == [
        ("repeated_file", (MAIN, 4, "listener_domains"), 'This names the file "a.toml" again, as "c.toml".'),
        ("repeated_file", (MAIN, 5, "listener_domains"), 'This names the file "a.toml" again.'),
    ]


def test_a_file_named_twice_is_wrong_once(tmp_path: Path) -> None:
    """A fault of a file has one finding, however often the file is read."""
    files = {MAIN: 'listener_domains = ["a.toml", "a.toml"]\n', "a.toml": '["a.com"]\nlog_oob = true\nttl = 5\n'}
    codes = [problem.code for problem in found(tmp_path, files)]
    assert sorted(map(str, codes)) == ["deprecated", "repeated_file", "report_loop"]


def test_many_alike(tmp_path: Path) -> None:
    """Of many findings of one kind there are five, over all files, and the last one says how many more exist."""
    files = {
        f"{number}.toml": "".join(f'["d{line}.{number}.com"]\nlog_oob = true\n' for line in range(50)) for number in range(2)
    }
    problems = found(tmp_path, files)
    assert [place(problem)[:2] for problem in problems] == [("0.toml", line) for line in range(2, 12, 2)]
    assert [problem.more for problem in problems] == [0, 0, 0, 0, 95]
    assert problems[-1].text.endswith(" mail loop (and 95 more like this).")
    assert "more" not in problems[0].text


def test_kinds_do_not_hide_each_other(tmp_path: Path) -> None:
    """Many findings of one kind leave room for one of another, also under the same code."""
    text = "".join(f'["d{number}.com"]\nrelay_from = ["0.0.0.0/0"]\n' for number in range(10)) + '["*"]\nrelay_to = true\n'
    problems = found(tmp_path, {"d.toml": text})
    assert [(problem.code, place(problem)[1]) for problem in problems] == [
        ("open_relay", line) for line in (2, 4, 6, 8, 10, 22)
    ]


def test_warnings_of_the_reading_stand_beside_errors(tmp_path: Path) -> None:
    """An error does not hide a warning that was found before it."""
    loaded = load_files(tmp_path, {"d.toml": '["a.com"]\nttl = 5\nrelay_to = 1\n'})
    assert loaded.settings is None
    assert [(problem.level, problem.code) for problem in loaded.problems] == [
        ("warning", "deprecated"),
        ("error", "wrong_type"),
    ]


MISSING = "no-such-account"
ACCOUNTS = """\
user = "{user}"
group = "{group}"
[milter]
socket_owner = "{user}"
socket_group = "{group}"
[listener."{listener}"]
relay_hosts = ["10.0.0.1"]
"""


def asked(folder: Path, **values: Any) -> list[tuple[str | None, int, str]]:
    """Load such a file as `check` does, and give code, line and text of each warning."""
    (folder / MAIN).write_text(ACCOUNTS.format(**values), encoding="utf-8")
    loaded = load(folder / MAIN, environ={}, ask_machine=True)
    assert loaded.settings is not None
    assert load(folder / MAIN, environ={}).problems == ()
    return [(problem.code, place(problem)[1], problem.text) for problem in loaded.problems]


@pytest.mark.parametrize("listener", ["127.0.0.1:25", "[::ffff:127.0.0.1]:25"])
def test_what_this_machine_has(tmp_path: Path, listener: str) -> None:
    """Its own accounts and addresses are no warning."""
    user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    assert asked(tmp_path, user=user, group=group, listener=listener) == []


@pytest.mark.parametrize(("listener", "address"), [("192.0.2.77:25", "192.0.2.77"), ("[2001:db8::77]:25", "2001:db8::77")])
def test_what_this_machine_does_not_have(tmp_path: Path, listener: str, address: str) -> None:
    """Accounts and addresses that this machine does not have are findings if the check asks for them, and only then."""
    text = f"No interface of this machine has the address {address}: an MTA here cannot have this listener."
    assert asked(tmp_path, user=MISSING, group=MISSING, listener=listener) == [
        ("unknown_account", 1, f'This machine has no user "{MISSING}".'),
        ("unknown_account", 2, f'This machine has no group "{MISSING}".'),
        ("unknown_account", 4, f'This machine has no user "{MISSING}".'),
        ("unknown_account", 5, f'This machine has no group "{MISSING}".'),
        ("unknown_listener", 7, text),
    ]


@pytest.mark.parametrize(("line", "number"), [("minimum_free = 1000001", 2), ("segment_age = 60", None)])
def test_a_disk_with_less_than_minimum_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, number: int | None
) -> None:
    """Each folder for records is named, set or not, and only when this machine is asked."""
    monkeypatch.setattr("sidecar.config.warnings.listeners.free_bytes", lambda _: 1_000_000)
    (tmp_path / MAIN).write_text(f'[journal]\n{line}\ndirectory = "j"\n[journal.OOB]\ndirectory = "o"\n', encoding="utf-8")
    problems = load(tmp_path / MAIN, environ={}, ask_machine=True).problems
    assert [(problem.code, problem.line) for problem in problems] == [("low_disk", number)] * 2
    assert problems[0].text.startswith(f"{tmp_path / 'j'} has 976.5 KiB free, less than journal.minimum_free, ")
    assert "old records would be deleted" in problems[0].text
    assert load(tmp_path / MAIN, environ={}).problems == ()


@pytest.mark.parametrize(("free", "minimum"), [(1000, 1000), (0, 0)])
def test_a_disk_with_as_much_as_minimum_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, minimum: int) -> None:
    monkeypatch.setattr("sidecar.config.warnings.listeners.free_bytes", lambda _: free)
    (tmp_path / MAIN).write_text(f"[journal]\nminimum_free = {minimum}\n", encoding="utf-8")
    assert load(tmp_path / MAIN, environ={}, ask_machine=True).problems == ()


@pytest.mark.parametrize(
    ("engine", "installed", "expected"),
    [
        ("libmilter", False, [("limited_engine", 3), ("missing_package", 3)]),
        ("libmilter", True, [("limited_engine", 3)]),
        ("direct", False, []),
    ],
)
def test_an_engine_with_faults_or_without_its_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, installed: bool, expected: list[tuple[str, int]]
) -> None:
    """The library only when this machine is asked: the settings may be for another one."""
    monkeypatch.setattr("sidecar.config.warnings.listeners.has_package", lambda _: installed)
    (tmp_path / MAIN).write_text(f'[milter]\nworkers = 1\nengine = "{engine}"\n', encoding="utf-8")
    problems = load(tmp_path / MAIN, environ={}, ask_machine=True).problems
    assert [(problem.code, problem.line) for problem in problems] == expected
    assert [problem.code for problem in load(tmp_path / MAIN, environ={}).problems] == [
        code for code, _ in expected if code != "missing_package"
    ]


def test_a_listener_is_told_of_once(tmp_path: Path) -> None:
    """Where no connection can end anywhere, this machine is not asked."""
    (tmp_path / MAIN).write_text('[listener."192.0.2.77:0"]\nrelay_hosts = ["10.0.0.1"]\n', encoding="utf-8")
    problems = load(tmp_path / MAIN, environ={}, ask_machine=True).problems
    assert [problem.code for problem in problems] == ["never_matches"]


@pytest.mark.parametrize(
    ("journal", "expected"),
    [
        ("[journal.Reception]\nenabled = false\n", [("no_record", 2)]),
        ("[journal.Reception]\nenabled = true\n", []),
        ("[journal.Rejection]\nenabled = false\n", [("no_record", 2)]),
        ("[journal.Any]\nenabled = false\n[journal.OOB]\n[journal.Feedback]\n[journal.Reception]\n", [("no_record", 2)]),
        ("[journal]\ncompression_level = 3\n", [("no_effect", 2)]),
        ('[journal]\nformat = "zstd"\ncompression_level = 3\n', []),
    ],
)
def test_what_a_journal_leaves_out(tmp_path: Path, journal: str, expected: list[tuple[str, int]]) -> None:
    """Records that are not written, and a compression that has no effect, have a warning with their line."""
    assert [(problem.code, place(problem)[1]) for problem in found(tmp_path, {MAIN: journal})] == expected


def test_every_code_is_drawn() -> None:
    """Each code that scripts may know belongs to a warning that a test here draws."""
    drawn = {code for _, code, *_ in DOMAINS} | {
        "shadowed",
        "repeated_file",
        "unknown_account",
        "unknown_listener",
        "no_record",
        "low_disk",
        "limited_engine",
        "missing_package",
        "exposed_list",  # in test_admin.py
        "no_tls",  # in test_fleet.py
        "policy_block",  # in test_suppression.py
        "weak_proof",  # in test_suppression.py and test_verify.py
        "short_retention",
    }
    assert drawn == set(get_args(WarningCode))


LABELS = st.sampled_from(["*", "a", "b", "com", "default", "uk", "co", "local"])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
ENTRIES = st.dictionaries(st.tuples(st.sampled_from(["*", "10.0.0.1:25", "10.0.0.2:25"]), NAMES), st.booleans(), max_size=8)


@given(ENTRIES)
def test_a_table_without_effect_has_none(entries: dict[tuple[str, str], bool]) -> None:
    """If an entry without effect is removed, no answer changes, with any other entries."""
    listed = [entry(name, listener, **({"relay_to": True} if permits else {})) for (listener, name), permits in entries.items()]
    findings = Findings()
    note_warnings(settings(listed), findings)
    idle = {problem.key for problem in findings.warnings() if problem.code == "no_effect"}
    names = {f"{label}{name.replace('*', 'x')}" for _, name in entries for label in ("", "y.")} | {"z"}
    peer = plain_address("203.0.113.9")
    for taken in (one for one in listed if one.path in idle):
        policies = [compile_policy(settings(some)) for some in (listed, [one for one in listed if one is not taken])]
        for listener in ("10.0.0.1:25", "10.0.0.2:25", "10.0.0.3:25"):
            for name in names:
                with_it, without = (policy.at_rcpt(peer, listener, None, "", f"u@{name}").accept for policy in policies)
                assert with_it == without, (taken.path, listener, name)


def test_json_domains(tmp_path: Path) -> None:
    """A JSON file is warned of like a TOML one, its `true` included."""
    content = json.dumps({"a.com": {"log_oob": True}, "default": {"relay_to": True}}, indent=1)
    assert [(problem.code, place(problem)[1]) for problem in found(tmp_path, {"d.json": content})] == [
        ("report_loop", 3),
        ("never_matches", 5),
    ]


@pytest.mark.parametrize("keys", ["relay_to = true", 'log_oob = "LogThenDrop"'])
def test_the_entry_default_never_opens_every_domain(tmp_path: Path, keys: str) -> None:
    """`"*"` is not proposed in its place."""
    (problem,) = found(tmp_path, {"d.toml": f'["default"]\n{keys}\n'})
    assert not problem.fix.startswith('Write "*"')


def test_each_wildcard_that_misses_names(tmp_path: Path) -> None:
    """One entry can take different names from different wildcards; a wildcard of a listener beside its `*` is no finding."""
    text = domains("*.com", "*.example.com", "*.b.example.com") + domains("*", "*.com", listener=LISTENER)
    assert [problem.text for problem in found(tmp_path, {"d.toml": text})] == [
        'Because of this entry "*.com" (d.toml:1) does not match "example.com".',
        'Because of this entry "*.example.com" (d.toml:2) does not match "b.example.com".',
    ]
