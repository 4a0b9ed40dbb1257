"""Same files in: each shape of file that KumoMTA's documentation shows loads here, and means what it says there."""

import json
from ipaddress import ip_address
from pathlib import Path

import pytest

from sidecar.core.classifier import Classifier
from sidecar.core.policy import compile_policy
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import LogMode
from tests.config.helpers import MAIN, settings_of

IGNORE, RELAY, DROP = LogMode.IGNORE, LogMode.LOG_THEN_RELAY, LogMode.LOG_THEN_DROP

# A default, a domain for each key, a wildcard, an exception to it, and one listener's own.
WHOLE = """\
["*"]
relay_to = false
log_oob = true
log_arf = true
["mail.test"]
relay_to = true
["returns.mail.test"]
log_oob = true
["complaints.mail.test"]
log_arf = true
["out.mail.test"]
relay_from = [ '10.0.0.0/24' ]
["login.mail.test"]
relay_from_authz = [ 'first', 'second' ]
["*.mail.test"]
log_oob = true
log_arf = true
relay_to = true
["www.mail.test"]
relay_to = false
log_arf = false
log_oob = false
[listener."127.0.0.1:25"."*.mail.test"]
log_oob = false
"""


def entries(settings: Settings) -> dict[str, dict[str, object]]:
    """Give what each entry sets, by listener and domain."""
    found: dict[str, dict[str, object]] = {}
    for entry in settings.domains:
        name = entry.domain if entry.listener == "*" else f"{entry.listener} {entry.domain}"
        found[name] = {key: getattr(entry, key) for key in entry.steps if key}
    return found


def test_every_key_of_a_domain(tmp_path: Path) -> None:
    """A default, single keys, a wildcard, an exception and a listener's own table stand side by side."""
    found = entries(settings_of(tmp_path, {"d.toml": WHOLE}))
    networks = found["out.mail.test"].pop("relay_from")
    assert [network.text for network in networks] == ["10.0.0.0/24"]  # type: ignore[attr-defined]
    assert found == {
        "*": {"relay_to": False, "log_oob": RELAY, "log_arf": RELAY},
        "mail.test": {"relay_to": True},
        "returns.mail.test": {"log_oob": RELAY},
        "complaints.mail.test": {"log_arf": RELAY},
        "out.mail.test": {},
        "login.mail.test": {"relay_from_authz": ("first", "second")},
        "*.mail.test": {"log_oob": RELAY, "log_arf": RELAY, "relay_to": True},
        "www.mail.test": {"relay_to": False, "log_arf": IGNORE, "log_oob": IGNORE},
        "127.0.0.1:25 *.mail.test": {"log_oob": IGNORE},
    }


@pytest.mark.parametrize(
    ("written", "mode"),
    [('"Ignore"', IGNORE), ('"LogThenRelay"', RELAY), ('"LogThenDrop"', DROP), ("true", RELAY), ("false", IGNORE)],
)
@pytest.mark.parametrize("key", ["log_oob", "log_arf"])
def test_modes(tmp_path: Path, key: str, written: str, mode: LogMode) -> None:
    """Each mode can be written in words, and the two old ones as true and false."""
    assert entries(settings_of(tmp_path, {"d.toml": f'["mail.test"]\n{key} = {written}\n'})) == {"mail.test": {key: mode}}


@pytest.mark.parametrize(
    "spelling",
    [
        '["mail.test"]\nrelay_to = true\n["returns.mail.test"]\nlog_oob = "LogThenDrop"\n',
        "['mail.test']\nrelay_to = true\n['returns.mail.test']\nlog_oob = 'LogThenDrop'\n",
        '"mail.test" = { relay_to = true }\n"returns.mail.test" = { log_oob = "LogThenDrop" }\n',
        '"mail.test".relay_to = true\n"returns.mail.test".log_oob = "LogThenDrop"\n',
    ],
)
def test_spellings_of_toml(tmp_path: Path, spelling: str) -> None:
    """However TOML spells a table, it is the same table."""
    assert entries(settings_of(tmp_path, {"d.toml": spelling})) == {
        "mail.test": {"relay_to": True},
        "returns.mail.test": {"log_oob": DROP},
    }


def test_json_says_the_same(tmp_path: Path) -> None:
    """What a TOML file says can stand in a JSON file."""
    as_json = {
        "*": {"relay_to": False},
        "mail.test": {"relay_to": True, "ttl": "5 minutes"},
        "out.mail.test": {"relay_from": ["10.0.0.0/24", "::1"]},
        "listener": {"127.0.0.1:25": {"*.mail.test": {"log_oob": "LogThenDrop"}}, "*": {"b.test": {"log_arf": True}}},
    }
    found = entries(settings_of(tmp_path, {"d.json": json.dumps(as_json, indent=2)}))
    assert found.keys() == {"*", "mail.test", "out.mail.test", "127.0.0.1:25 *.mail.test", "b.test"}
    assert found["127.0.0.1:25 *.mail.test"] == {"log_oob": DROP}


def test_files_in_their_order(tmp_path: Path) -> None:
    """Of several files a later one wins, key by key."""
    files = {
        "a.toml": '["mail.test"]\nrelay_to = true\nlog_oob = true\n',
        "b.json": '{"mail.test": {"log_oob": "LogThenDrop"}}',
    }
    assert entries(settings_of(tmp_path, files)) == {"mail.test": {"relay_to": True, "log_oob": DROP}}


EXCEPTIONS = """\
['*']
relay_to = true
['branch.test']
relay_to = false
relay_from = ['10.0.0.0/24']
[listener."127.0.0.1:25"."*.mail.test"]
log_oob = false
['staff.test']
relay_to = false
relay_from_authz = ["john"]
"""


@pytest.mark.parametrize(
    ("listener", "sender", "authz_id", "recipient", "relay"),
    [
        ("127.0.0.1:25", "", None, "x@mail.test", True),
        ("127.0.0.1:25", "", None, "x@a.mail.test", False),
        ("10.0.0.1:25", "", None, "x@a.mail.test", True),
        ("10.0.0.1:25", "", None, "x@branch.test", False),
        ("10.0.0.1:25", "a@branch.test", None, "x@branch.test", True),
        ("10.0.0.1:25", "", None, "x@staff.test", False),
        ("10.0.0.1:25", "a@staff.test", None, "x@staff.test", False),
        ("10.0.0.1:25", "a@staff.test", "john", "x@staff.test", True),
    ],
)
def test_exceptions_to_a_default(
    tmp_path: Path, listener: str, sender: str, authz_id: str | None, recipient: str, *, relay: bool
) -> None:
    """A domain's own table and a listener's replace the default, in whatever order they stand; senders are looked up alike."""
    policy = compile_policy(settings_of(tmp_path, {"d.toml": EXCEPTIONS}))
    assert policy.at_rcpt(ip_address("10.0.0.7"), listener, authz_id, sender, recipient).relay is relay


RULES = r"""
[rules]
InvalidRecipient = [
  "^552.+no such mailbox", # a comment
  '^(451|55[0-4]) [45]\.1\.[1346]',
]
QuotaIssues = []
TransientFailure = [
  "greylisted",
  "^4\\d\\d .+try again",
]
OurOwnClass = ['''(?i)^550 5\.7\.1 .*blocked''']
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("552 5.2.0 there is no such mailbox", "InvalidRecipient"),
        ("550 5.1.1 user unknown", "InvalidRecipient"),
        ("450 4.2.0 greylisted", "TransientFailure"),
        ("421 4.7.0 please try again", "TransientFailure"),
        ("550 5.7.1 it is BLOCKED", "OurOwnClass"),
        ("550 5.2.2 full", None),
    ],
)
def test_rule_files(tmp_path: Path, line: str, expected: str | None) -> None:
    """A rule file of any class, quoting and order, empty classes included, gives each response its class."""
    rules = settings_of(tmp_path, {MAIN: 'bounce_classifier = ["r.toml"]', "r.toml": RULES}).bounce_rules
    rule = Classifier(rules).rule(line)
    assert (rule and rule.bounce_class) == expected


def test_the_first_file_wins(tmp_path: Path) -> None:
    """A site's own file before a general one decides, also in JSON."""
    own = json.dumps({"rules": {"TransientFailure": ["over quota"]}})
    settings = settings_of(tmp_path, {MAIN: 'bounce_classifier = ["own.json", "iana"]', "own.json": own})
    rule = Classifier(settings.bounce_rules).rule("552 5.2.2 over quota")
    assert rule is not None
    assert rule.bounce_class == "TransientFailure"
