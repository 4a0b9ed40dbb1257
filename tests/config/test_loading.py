"""The settings file: defaults, every key, every error, and what follows from a folder or an environment."""

import os
from pathlib import Path
from typing import Any

import pytest

from sidecar.config import load
from sidecar.config.rules import iana_rules
from sidecar.core.findings import Finding
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import JournalSettings, LimitSettings, LogSettings, MilterSettings, Where
from tests.config.helpers import MAIN, load_files, place, settings_of

FULL = """\
relay_hosts = ["127.0.0.1", "192.168.1.0/24"]
listener_domains = "d.toml"
reject_at_connect = false
decide = "end"
report_size_limit = 1000000
recipient_limit = 500
headers = ["Subject", "X-Job", "subject"]
state_directory = "/var/lib/elsewhere"
node_id = "0F1C9B1E-52A4-4D43-9B1F-6A1F5F1A7C11"
user = "sidecar"
group = "mail"
reload_on_change = false
text_bounces = "reject"
unparsable_reports = "quarantine"
bounce_classifier = ["iana"]
[listener."127.0.0.1:25"]
relay_hosts = ["10.0.0.1"]
[listener."[::1]:25"]
[milter]
socket = "local:/run/sidecar.sock"
socket_mode = "0600"
socket_owner = "sidecar"
socket_group = "postfix"
workers = 4
allow_remote = true
[journal]
directory = "records"
segment_size = 1000000
segment_age = 60
minimum_free = 0
[limits]
header_size = 100000
reports_per_second = 10
report_memory = 2000000
sessions = 100
rejection_records_per_second = 20
record_bytes_per_byte = 0
record_bytes_burst = 2000000
quarantine_size = 3000000
quarantine_age = 86400
index_age = 7200
[log]
level = "debug"
format = "json"
"""


def main_file(folder: Path, text: str) -> tuple[Finding, ...]:
    """Load one settings file and give its problems."""
    return load_files(folder, {MAIN: text}).problems


def test_defaults() -> None:
    """Without a file the built-in settings serve: the host itself may relay, and nothing is listed."""
    loaded = load(None, environ={"STATE_DIRECTORY": "/s"})
    assert loaded.problems == ()
    settings = loaded.settings
    assert settings is not None
    assert [network.text for network in settings.relay_hosts.networks] == ["127.0.0.1", "::1"]
    assert settings.relay_hosts.where is None
    assert settings.milter.engine == "direct"
    assert settings == Settings(
        relay_hosts=settings.relay_hosts,
        milter=MilterSettings(),
        journal=JournalSettings(directory=Path("/s/journal")),
        log=LogSettings(),
        state_directory=Path("/s"),
    )


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    """A file that sets nothing changes nothing."""
    assert settings_of(tmp_path, {MAIN: ""}) == load(None, environ={}).settings


def test_every_key(tmp_path: Path) -> None:
    """Every key reaches its place; paths are relative to the settings file's folder, also when that is named relatively."""
    (tmp_path / "d.toml").write_text('["a.com"]\n', encoding="utf-8")
    settings = settings_of(tmp_path, {MAIN: FULL})
    own = settings.listener_relay_hosts["127.0.0.1:25"]
    file = str(tmp_path / MAIN)
    assert settings.relay_hosts.where == Where(file=file, line=1, key="relay_hosts")
    assert own.where == Where(file=file, line=17, key='listener."127.0.0.1:25".relay_hosts')
    assert [network.text for network in own.networks] == ["10.0.0.1"]
    assert settings == Settings(
        relay_hosts=settings.relay_hosts,
        listener_relay_hosts={"127.0.0.1:25": own},
        domains=settings.domains,
        reject_at_connect=False,
        decide="end",
        report_size_limit=1000000,
        recipient_limit=500,
        headers=("subject", "x-job"),
        state_directory=Path("/var/lib/elsewhere"),
        node_id="0f1c9b1e-52a4-4d43-9b1f-6a1f5f1a7c11",
        user="sidecar",
        group="mail",
        reload_on_change=False,
        text_bounces="reject",
        unparsable_reports="quarantine",
        bounce_rules=iana_rules(),
        limits=LimitSettings(
            header_size=100_000,
            reports_per_second=10,
            report_memory=2_000_000,
            sessions=100,
            rejection_records_per_second=20,
            record_bytes_per_byte=0,
            record_bytes_burst=2_000_000,
            quarantine_size=3_000_000,
            quarantine_age=86400,
            index_age=7200,
        ),
        milter=MilterSettings(
            socket="unix:/run/sidecar.sock",
            socket_mode=0o600,
            socket_owner="sidecar",
            socket_group="postfix",
            workers=4,
            allow_remote=True,
        ),
        journal=JournalSettings(directory=tmp_path / "records", segment_size=1000000, segment_age=60, minimum_free=0),
        log=LogSettings(level="debug", format="json"),
    )
    assert [entry.where("").file for entry in settings.domains] == ["d.toml"]


def test_a_relative_settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is relative becomes absolute at once: the program may change its folder later."""
    (tmp_path / MAIN).write_text('state_directory = "state"\n[milter]\nsocket = "unix:s"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    settings = load(Path(MAIN), environ={}).settings
    assert settings is not None
    assert settings.journal.directory == tmp_path / "state/journal"
    assert settings.milter.socket == f"unix:{tmp_path}/s"


def test_json_settings(tmp_path: Path) -> None:
    """The settings file may be JSON, by its name's ending."""
    (tmp_path / "sidecar.json").write_text('{"recipient_limit": 5,\n"milter": {"workers": 0,\n"workers": 1}}', encoding="utf-8")
    loaded = load(tmp_path / "sidecar.json", environ={})
    assert [place(problem)[1:] for problem in loaded.problems] == [(3, "milter.workers")]


@pytest.mark.parametrize(
    ("user", "environ", "directory"),
    [
        (0, {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "XDG_STATE_HOME": "/x"}, "/var/lib/a"),
        (0, {"XDG_STATE_HOME": "/x", "HOME": "/root"}, "/var/lib/sidecar"),
        (1000, {"XDG_STATE_HOME": "/x", "HOME": "/home/d"}, "/x/sidecar"),
        (1000, {"XDG_STATE_HOME": "x", "HOME": "/home/d"}, "/home/d/.local/state/sidecar"),
        (1000, {}, "/var/lib/sidecar"),
        (1000, {"STATE_DIRECTORY": "", "HOME": "/home/d"}, "/home/d/.local/state/sidecar"),
    ],
)
def test_state_directory(monkeypatch: pytest.MonkeyPatch, user: int, environ: dict[str, str], directory: str) -> None:
    """State is kept where systemd, the system or the user's desktop says."""
    monkeypatch.setattr(os, "geteuid", lambda: user)
    settings = load(None, environ=environ).settings
    assert settings is not None
    assert settings.state_directory == Path(directory)


LISTENERS = 'Write IP:port, such as "127.0.0.1:25" or "[::1]:25".'
ERRORS: list[tuple[str, int, str, str, str]] = [
    (
        'relay_hosts = "127.0.0.1"',
        1,
        "relay_hosts",
        '"127.0.0.1" is not a list.',
        'Write a list, such as ["127.0.0.1", "192.168.1.0/24"].',
    ),
    (
        'relay_hosts = [\n"::1",\n"192.168.1.1/24"]',
        3,
        "relay_hosts",
        '"192.168.1.1/24" has host bits set: 192.168.1.1 is one address inside 192.168.1.0/24.',
        'Write "192.168.1.0/24" for the network or "192.168.1.1" for the one host.',
    ),
    ("relay_host = []", 1, "relay_host", '"relay_host" is not a known key.', "Write relay_hosts, or remove it."),
    (
        "a = 1\n",
        1,
        "a",
        '"a" is not a known key.',
        (
            "Remove it. The known keys here are: relay_hosts, listener_domains, reject_at_connect, decide, report_size_limit, "
            "recipient_limit, text_bounces, unparsable_reports, headers, original_headers, bounce_classifier, state_directory, "
            "node_id, user, group, reload_on_change, compat, journal, limits, milter, admin, verify, sign, suppression, "
            "fleet, listener, webhook, log."
        ),
    ),
    ("listener_domains = 1", 1, "listener_domains", "1 is not a list.", 'Write a list, such as ["listener_domains.toml"].'),
    (
        'bounce_classifier = [\n"d.lua"\n]',
        2,
        "bounce_classifier",
        '"d.lua" ends neither in .toml nor in .json.',
        "Rename it by its format.",
    ),
    (
        'listener_domains = [\n"d.toml"\n]',
        2,
        "listener_domains",
        'The file "d.toml" does not exist.',
        "Create it or name another.",
    ),
    (
        "report_size_limit = 999",
        1,
        "report_size_limit",
        "999 is out of range.",
        "Write a whole number of bytes from 1000 to 1073741824.",
    ),
    (
        'report_size_limit = "10 MiB"',
        1,
        "report_size_limit",
        '"10 MiB" is not a whole number.',
        "Write a whole number of bytes from 1000 to 1073741824.",
    ),
    ("recipient_limit = 0", 1, "recipient_limit", "0 is out of range.", "Write a whole number of recipients from 1 to 100000."),
    (
        'headers = ["Subject:"]',
        1,
        "headers",
        '"Subject:" is not the name of a header.',
        'Write a name such as "Subject", or "X-*" for many.',
    ),
    ("state_directory = 1", 1, "state_directory", "1 is not a directory.", "Write a directory in quotes."),
    ("reject_at_connect = 1", 1, "reject_at_connect", "1 is neither true nor false.", "Write true or false, without quotes."),
    (
        "\nmilter = 1",
        2,
        "milter",
        "1 is not a table.",
        "Write [milter] on a line of its own and the keys below it.",
    ),
    ('\ngroup = "mail"', 2, "group", "The group is set without a user.", "Write the user too, or remove the group."),
    ("[milter]\nworkers = 65", 2, "milter.workers", "65 is out of range.", "Write a whole number of processes from 1 to 64."),
    ("[milter]\nworker = 2", 2, "milter.worker", '"worker" is not a known key.', "Write workers, or remove it."),
    (
        '[journal]\ndirectory = ""',
        2,
        "journal.directory",
        '"" is not a directory.',
        "Write a directory, not empty and without control characters.",
    ),
    (
        "[journal]\nsegment_size = 4095",
        2,
        "journal.segment_size",
        "4095 is out of range.",
        "Write a whole number of bytes from 4096 to 17179869184.",
    ),
    (
        "[journal]\nsegment_age = 0",
        2,
        "journal.segment_age",
        "0 is out of range.",
        "Write a whole number of seconds from 1 to 2678400.",
    ),
    (
        "[journal]\nminimum_free = -1",
        2,
        "journal.minimum_free",
        "-1 is out of range.",
        "Write a whole number of bytes from 0 to 17592186044416.",
    ),
    (
        "[limits]\nrecord_bytes_per_byte = -1",
        2,
        "limits.record_bytes_per_byte",
        "-1 is out of range.",
        "Write a whole number of bytes from 0 to 1000000.",
    ),
    (
        "[limits]\nrecord_bytes_burst = 999",
        2,
        "limits.record_bytes_burst",
        "999 is out of range.",
        "Write a whole number of bytes from 1000 to 1099511627776.",
    ),
    (
        "[limits]\nsessions = 0",
        2,
        "limits.sessions",
        "0 is out of range.",
        "Write a whole number of sessions from 1 to 1000000.",
    ),
    (
        "report_size_limit = 1000000\n[limits]\nreport_memory = 999999",
        3,
        "limits.report_memory",
        "limits.report_memory is 999999, less than report_size_limit, 1000000: the largest reports would always get 451.",
        "Write report_memory = 1000000 or more below [limits], or a smaller report_size_limit.",
    ),
    (
        "\nreport_size_limit = 200000000",
        2,
        "report_size_limit",
        "limits.report_memory is 134217728, less than report_size_limit, 200000000: the largest reports would always get 451.",
        "Write report_memory = 200000000 or more below [limits], or a smaller report_size_limit.",
    ),
    ('decide = "data"', 1, "decide", '"data" is not one of "early" or "end".', "Write one of these."),
    ("text_bounces = true", 1, "text_bounces", 'true is not one of "accept" or "reject".', "Write one of these."),
    (
        'unparsable_reports = "quarantined"',
        1,
        "unparsable_reports",
        '"quarantined" is not one of "reject" or "quarantine".',
        'Write "quarantine".',
    ),
    (
        '[log]\nlevel = "warn"',
        2,
        "log.level",
        '"warn" is not one of "debug", "info", "warning" or "error".',
        'Write "warning".',
    ),
    ('[listener."127.0.0.1"]\nrelay_hosts = []', 1, 'listener."127.0.0.1"', '"127.0.0.1" is not a listener.', LISTENERS),
    ("[listener.mx]\nrelay_hosts = []", 1, 'listener."mx"', '"mx" is not a listener.', LISTENERS),
    (
        '[listener."127.0.0.1:25"]\nx = true',
        2,
        'listener."127.0.0.1:25".x',
        '"x" is not a known key.',
        "Remove it. The known keys here are: relay_hosts.",
    ),
    (
        '[listener."127.0.0.1:25"]\n[listener."127.0.0.1:025"]',
        2,
        'listener."127.0.0.1:025"',
        "This is the same listener as on line 1.",
        "Keep one of the two.",
    ),
]


@pytest.mark.parametrize(("text", "line", "key", "wrong", "fix"), ERRORS)
def test_errors(tmp_path: Path, text: str, line: int, key: str, wrong: str, fix: str) -> None:
    """Each mistake is one error with its place, what is wrong and what to write."""
    loaded = load_files(tmp_path, {MAIN: text})
    assert loaded.settings is None
    (problem,) = loaded.problems
    assert (problem.level, *place(problem)) == ("error", MAIN, line, key)
    assert (problem.text, problem.fix) == (wrong, fix)


def test_a_missing_settings_file(tmp_path: Path) -> None:
    """A settings file that is not there is one error that names it."""
    (problem,) = load(tmp_path / "none.toml").problems
    assert (problem.level, problem.code, problem.file) == ("error", "unreadable_file", None)
    assert problem.text.endswith("does not exist.")


def test_unreadable_domains_do_not_hide_others(tmp_path: Path) -> None:
    """A file with a syntax error is one problem, and the files around it are still read."""
    files = {"a.toml": "[", "b.json": "{", "c.toml": "x = 1"}
    problems = load_files(tmp_path, files).problems
    assert [place(problem)[:2] for problem in problems] == [("a.toml", 1), ("b.json", 1), ("c.toml", 1)]


@pytest.mark.parametrize(
    "value", ["1", "1.5", "true", '"x"', "[]", "[1]", "{}", "{a = 1}", "1979-05-27", "nan", '[{"*" = []}]']
)
@pytest.mark.parametrize("key", [line.partition(" ")[0] for line in FULL.splitlines() if "=" in line] + ["milter", "listener"])
def test_no_value_is_too_odd(tmp_path: Path, key: str, value: str) -> None:
    """Whatever type stands under whichever key, it is settings or problems with a place, never an exception."""
    line = f"{key} = {value}\n"
    tables = ("[milter]\n", "[journal]\n", "[limits]\n", "[log]\n", '[listener."127.0.0.1:25"]\n')
    for text in (line, line.join((*tables, ""))):
        loaded = load_files(tmp_path, {MAIN: text})
        found: list[Any] = [place(problem) for problem in loaded.problems]
        assert (loaded.settings is None) == bool(found)


def test_a_key_below_the_wrong_section(tmp_path: Path) -> None:
    """A key of the whole file that is appended after a section gets its place, and not the advice to remove it."""
    (problem,) = load_files(tmp_path, {MAIN: '[log]\nlevel = "info"\nreport_size_limit = 5000000\n'}).problems
    assert (problem.code, problem.line, problem.key) == ("unknown_key", 3, "log.report_size_limit")
    assert problem.fix == "Move it above the first [section]: below [log], it belongs to that section."
    # The name of a section is no such key.
    (problem,) = load_files(tmp_path, {MAIN: '[admin]\ntokens = { admin = "file" }\n'}).problems
    assert problem.fix == "Remove it. The known keys here are: reader, operator."
