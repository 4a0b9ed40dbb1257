"""KumoMTA's listener domains files: the sample, the merging, the spellings, and every error with its place."""

import json
from pathlib import Path
from typing import Any

import pytest
import tomli

from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry, LogMode, Where
from tests.config.helpers import load_files, place, settings_of

SAMPLE = """\
["example.com"]
relay_to = true                 # anyone may send to this domain
["bounce.example.com"]
log_oob = "LogThenDrop"         # take bounce reports, log them, drop them
["fbl.example.com"]
log_arf = "LogThenRelay"        # take feedback reports, log them, pass them on
["send.example.com"]
relay_from = ["10.0.0.0/24"]    # these peers may relay anywhere if the ENVELOPE SENDER is in this domain
["auth.example.com"]
relay_from_authz = ["daniel"]   # same, for a peer authenticated (SMTP AUTH) as one of these
["*.example.com"]
log_oob = true
["*"]                           # every other domain
relay_to = false
[listener."127.0.0.1:25"."*.example.com"]   # only on this listener
log_oob = false
"""


def entries(settings: Settings) -> dict[tuple[str, str], DomainEntry]:
    """Return the entries by listener and domain."""
    return {(entry.listener, entry.domain): entry for entry in settings.domains}


def rules(settings: Settings) -> dict[tuple[str, str], dict[str, Any]]:
    """Return what each entry sets, without the lines."""
    return {name: {key: getattr(entry, key) for key in entry.steps if key} for name, entry in entries(settings).items()}


def places(entry: DomainEntry) -> dict[str, tuple[str, int]]:
    """Return file and line of each key of an entry, and of its table."""
    return {key: ((where := entry.where(key)).file, where.line) for key in entry.steps}


def test_sample(tmp_path: Path) -> None:
    """The sample of the manual says what the manual says of it."""
    found = entries(settings_of(tmp_path, {"d.toml": SAMPLE}))
    assert found["*", "example.com"].relay_to
    assert found["*", "bounce.example.com"].log_oob is LogMode.LOG_THEN_DROP
    assert found["*", "fbl.example.com"].log_arf is LogMode.LOG_THEN_RELAY
    assert [network.text for network in found["*", "send.example.com"].relay_from] == ["10.0.0.0/24"]
    assert found["*", "auth.example.com"].relay_from_authz == ("daniel",)
    assert found["*", "*.example.com"].log_oob is LogMode.LOG_THEN_RELAY
    assert not found["*", "*"].relay_to
    assert found["127.0.0.1:25", "*.example.com"].log_oob is LogMode.IGNORE
    assert len(found) == 8


def test_sample_as_json(tmp_path: Path) -> None:
    """The same in JSON loads the same, and each key is found on its own line there too."""
    as_json = json.dumps(tomli.loads(SAMPLE), indent=1)
    found = settings_of(tmp_path, {"d.json": as_json})
    assert rules(found) == rules(settings_of(tmp_path, {"d.toml": SAMPLE}))
    for entry in found.domains:
        for line in (entry.where(key).line for key in entry.steps):
            assert as_json.splitlines()[line - 1].count('"') >= 2
        assert entry.path.endswith(as_json.splitlines()[entry.line - 1].strip(" :{"))


def test_lines(tmp_path: Path) -> None:
    """An entry knows the line of its table and of each key that was set, and spells its key path as the file does."""
    entry = entries(settings_of(tmp_path, {"d.toml": SAMPLE}))["127.0.0.1:25", "*.example.com"]
    path = 'listener."127.0.0.1:25"."*.example.com"'
    assert places(entry) == {"": ("d.toml", 15), "log_oob": ("d.toml", 16)}
    assert entry.where("log_oob") == Where(file="d.toml", line=16, key=f"{path}.log_oob")
    assert entry.where("relay_to") == Where(file="d.toml", line=15, key=path)


def test_other_shapes(tmp_path: Path) -> None:
    """Dotted keys, inline tables and a table without keys are tables like any other."""
    text = '"A.com".relay_to = true\n"b.com" = { relay_to = true, log_arf = "LogThenDrop" }\n["c.com"]\n'
    found = entries(settings_of(tmp_path, {"d.toml": text}))
    assert found["*", "a.com"].where("relay_to") == Where(file="d.toml", line=1, key='"A.com".relay_to')
    assert found["*", "b.com"].log_arf is LogMode.LOG_THEN_DROP
    assert places(found["*", "c.com"]) == {"": ("d.toml", 3)}


def test_merge(tmp_path: Path) -> None:
    """A later file wins key by key, for each domain on each listener, and each key keeps the file it came from."""
    files = {
        "a.toml": '["a.com"]\nrelay_to = true\nlog_oob = true\n[listener."127.0.0.1:25"."a.com"]\nlog_arf = true\n["b.com"]\n',
        "b.json": '{"A.com.": {\n"log_oob": "LogThenDrop"}}',
        "c.toml": '["c.com"]\nrelay_to = true\n',
    }
    settings = settings_of(tmp_path, files)
    assert rules(settings) == {
        ("127.0.0.1:25", "a.com"): {"log_arf": LogMode.LOG_THEN_RELAY},
        ("*", "a.com"): {"relay_to": True, "log_oob": LogMode.LOG_THEN_DROP},
        ("*", "b.com"): {},
        ("*", "c.com"): {"relay_to": True},
    }
    merged = entries(settings)["*", "a.com"]
    assert places(merged) == {"": ("b.json", 1), "relay_to": ("a.toml", 2), "log_oob": ("b.json", 2)}


def test_any_listener(tmp_path: Path) -> None:
    """`listener."*"` is the same map as the top level, whose table replaces one of the same name, with a warning."""
    text = '[listener."*"."a.com"]\nlog_oob = true\n[listener."*"."b.com"]\nrelay_to = true\n["a.com"]\nrelay_to = true\n'
    loaded = load_files(tmp_path, {"d.toml": text})
    assert loaded.settings is not None
    assert rules(loaded.settings) == {(ANY_LISTENER, "a.com"): {"relay_to": True}, (ANY_LISTENER, "b.com"): {"relay_to": True}}
    (problem,) = loaded.problems
    assert (problem.level, place(problem)) == ("warning", ("d.toml", 1, 'listener."*"."a.com"'))
    assert problem.text == 'The table "a.com" on line 5 replaces this one.'


@pytest.mark.parametrize(
    ("spelled", "domain"),
    [
        ("EXAMPLE.com.", "example.com"),
        ("B\u00fccher.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("*.B\u00dcCHER.example", "*.xn--bcher-kva.example"),
        ("*", "*"),
        ("_dmarc.example.com", "_dmarc.example.com"),
        ("[192.0.2.1]", "[192.0.2.1]"),
    ],
)
def test_names(tmp_path: Path, spelled: str, domain: str) -> None:
    """Domains are held in the one form in which they are compared."""
    (entry,) = settings_of(tmp_path, {"d.toml": f'["{spelled}"]\n'}).domains
    assert (entry.domain, entry.path) == (domain, f'"{spelled}"')


def test_a_long_name_is_whole_in_its_path(tmp_path: Path) -> None:
    """The key path of a domain is never shortened."""
    name = ".".join(["a" * 60] * 4)
    (entry,) = settings_of(tmp_path, {"d.toml": f'["{name}"]\n'}).domains
    assert entry.path == f'"{name}"'


@pytest.mark.parametrize(
    ("spelled", "listener"),
    [("127.0.0.1:25", "127.0.0.1:25"), ("[::1]:25", "[::1]:25"), ("[0:0:0:0:0:0:0:1]:025", "[::1]:25"), ("*", "*")],
)
def test_listeners(tmp_path: Path, spelled: str, listener: str) -> None:
    """Listeners are held in one spelling, too."""
    (entry,) = settings_of(tmp_path, {"d.toml": f'[listener."{spelled}"."a.com"]\n'}).domains
    assert entry.listener == listener


def test_networks_are_shared(tmp_path: Path) -> None:
    """A network that many domains name is one value."""
    text = "".join(f'["d{number}.com"]\nrelay_from = ["10.0.0.0/8"]\n' for number in range(3))
    assert len({id(entry.relay_from[0]) for entry in settings_of(tmp_path, {"d.toml": text}).domains}) == 1


NO_MODE = 'is not one of "Ignore", "LogThenRelay", "LogThenDrop", true or false.'
TABLE = 'Write ["a.com"] on a line of its own, and below it keys such as relay_to = true.'
IN_FULL = 'Write an address or a network in full, such as "192.168.1.7", "192.168.1.0/24" or "2001:db8::/32".'
TABLES = 'Write tables such as [listener."127.0.0.1:25"."example.com"].'

# The text of a file; the line, the key path, what is wrong, what to write.
ERRORS = [
    (
        '["a.com"]\nrelay_to = "yes"',
        2,
        '"a.com".relay_to',
        '"yes" is neither true nor false.',
        "Write true or false, without quotes.",
    ),
    ('["a.com"]\nrelay_to = 1', 2, '"a.com".relay_to', "1 is neither true nor false.", "Write true or false, without quotes."),
    ('["a.com"]\nlog_oob = "Drop"', 2, '"a.com".log_oob', f'"Drop" {NO_MODE}', "Write one of these."),
    ('["a.com"]\nlog_arf = "logthendrop"', 2, '"a.com".log_arf', f'"logthendrop" {NO_MODE}', 'Write "LogThenDrop".'),
    ('["a.com"]\nlog_oob = "LogAndDrop"', 2, '"a.com".log_oob', f'"LogAndDrop" {NO_MODE}', 'Write "LogThenDrop".'),
    ('["a.com"]\nlog_arf = 0', 2, '"a.com".log_arf', f"0 {NO_MODE}", "Write one of these."),
    ('["a.com"]\nlog_arf = ["Ignore"]', 2, '"a.com".log_arf', f"a list {NO_MODE}", "Write one of these."),
    (
        '["a.com"]\nrelay_from = "10.0.0.0/8"',
        2,
        '"a.com".relay_from',
        '"10.0.0.0/8" is not a list.',
        'Write a list, such as ["127.0.0.1", "192.168.1.0/24"].',
    ),
    (
        '["a.com"]\nrelay_from = [\n"10.0.0.0/8",\n"10/8"]',
        4,
        '"a.com".relay_from',
        '"10/8" is neither an IP address nor a network.',
        IN_FULL,
    ),
    (
        '["a.com"]\nrelay_from = [1]',
        2,
        '"a.com".relay_from',
        "1 is not a network.",
        'Write it in quotes, such as "192.168.1.0/24".',
    ),
    (
        '["a.com"]\nrelay_from = ["192.168.1.1/24"]',
        2,
        '"a.com".relay_from',
        '"192.168.1.1/24" has host bits set: 192.168.1.1 is one address inside 192.168.1.0/24.',
        'Write "192.168.1.0/24" for the network or "192.168.1.1" for the one host.',
    ),
    (
        '["a.com"]\nrelay_from_authz = "d"',
        2,
        '"a.com".relay_from_authz',
        '"d" is not a list.',
        'Write a list, such as ["daniel"].',
    ),
    (
        '["a.com"]\nrelay_from_authz = [true]',
        2,
        '"a.com".relay_from_authz',
        "true is not a user name.",
        "Write a user name in quotes.",
    ),
    (
        '["a.com"]\nrelay_from_authz = ["a\\u0000"]',
        2,
        '"a.com".relay_from_authz',
        '"a\\u0000" is not a user name.',
        "Write a user name, not empty and without control characters.",
    ),
    ('["a.com"]\nttl = true', 2, '"a.com".ttl', "true is not a duration.", "Remove ttl: it has no effect."),
    (
        '["a.com"]\nrelay_too = true',
        2,
        '"a.com".relay_too',
        '"relay_too" is not a known key.',
        "Write relay_to, or remove it.",
    ),
    (
        '["a.com"]\n"\\u001b[2J" = 1',
        2,
        '"a.com"."\\u001b[2J"',
        '"\\u001b[2J" is not a known key.',
        "Remove it. The known keys here are: relay_to, relay_from, relay_from_authz, log_oob, log_arf, ttl.",
    ),
    (
        "[example.com]\nrelay_to = true",
        1,
        '"example".com',
        'The domain "example" has a table inside.',
        'Write "example.com" in quotes.',
    ),
    (
        "[a.bounce.example.com]\nlog_oob = true\nlog_arf = true",
        1,
        '"a".bounce',
        'The domain "a" has a table inside.',
        'Write "a.bounce.example.com" in quotes.',
    ),
    (
        "\nrelay_to = true",
        2,
        '"relay_to"',
        "relay_to = true is outside the table of a domain.",
        'Write it below a line such as ["example.com"].',
    ),
    ('"a.com" = true', 1, '"a.com"', "true is not the table of a domain.", TABLE),
    ('[["a.com"]]\nrelay_to = true', 1, '"a.com"', "a list is not the table of a domain.", TABLE),
    ('["a.com"]\n\n["A.com."]', 3, '"A.com."', 'This is the same domain as "a.com" on line 1.', "Keep one of the two."),
    (
        '["b\u00fccher.de"]\n["xn--bcher-kva.de"]',
        2,
        '"xn--bcher-kva.de"',
        'This is the same domain as "b\u00fccher.de" on line 1.',
        "Keep one of the two.",
    ),
    (
        '[listener."[::1]:25"."a.com"]\n[listener."[::0:1]:25"."a.com"]',
        2,
        'listener."[::0:1]:25"."a.com"',
        'This is the same domain as listener."[::1]:25"."a.com" on line 1.',
        "Keep one of the two.",
    ),
    ("listener = 1", 1, "listener", "1 is not a table of domains.", TABLES),
    ('listener."127.0.0.1:25" = 1', 1, 'listener."127.0.0.1:25"', "1 is not a table of domains.", TABLES),
    (
        '[listener."127.0.0.1:25"]\nrelay_to = true',
        2,
        'listener."127.0.0.1:25"."relay_to"',
        "relay_to = true is outside the table of a domain.",
        'Write it below a line such as ["example.com"].',
    ),
]

NAME = 'Write a name such as "example.com", "*.example.com" or "*".'
# A name that no address has, and what to write.
UNMATCHED = [
    ("a b", NAME),
    ("a..b", NAME),
    ("*.\u2603.com", NAME),
    ("user@", NAME),
    ("fe80::1%eth0", NAME),
    ("user@a.com", 'Write "a.com".'),
    ("mailto:user@a.com", 'Write "a.com".'),
    ("https://user@a.com:443/x@b.com", 'Write "a.com".'),
    ("a.com:25", 'Write "a.com".'),
    ("a.com/24", 'Write "a.com".'),
    (" a.com", 'Write "a.com".'),
    (".a.com", 'Write "*.a.com".'),
    ("*@a.com", 'Write "a.com".'),
    ("2001:db8::1", 'Write "[IPv6:2001:db8::1]".'),
    ("::ffff:192.0.2.1", 'Write "[IPv6:::ffff:192.0.2.1]".'),
]


@pytest.mark.parametrize(("name", "fix"), UNMATCHED)
def test_names_of_no_address(tmp_path: Path, name: str, fix: str) -> None:
    """A name that no address has is a warning, because KumoMTA loads it, and it has no entry."""
    loaded = load_files(tmp_path, {"d.toml": f'["{name}"]\nrelay_to = true\n'})
    assert loaded.settings is not None
    assert len(loaded.settings.domains) == 0
    (problem,) = loaded.problems
    assert (problem.level, problem.code, place(problem)) == ("warning", "never_matches", ("d.toml", 1, f'"{name}"'))
    assert problem.text == f'No address has the domain "{name}", so this entry matches nothing.'
    assert problem.fix == fix


def test_a_label_is_too_long(tmp_path: Path) -> None:
    """The warning gives the limit."""
    (problem,) = load_files(tmp_path, {"d.toml": f'["{"a" * 64}.com"]\nrelay_to = true\n'}).problems
    assert problem.text.endswith("matches nothing: a part between dots has 63 characters at most.")


@pytest.mark.parametrize("listener", ["mx", "127.0.0.1", "127.0.0.1:99999", ""])
def test_listeners_of_no_connection(tmp_path: Path, listener: str) -> None:
    """The entries of a listener that no connection can have are not loaded, and that is a warning."""
    loaded = load_files(tmp_path, {"d.toml": f'[listener."{listener}"."a.com"]\nrelay_to = true\n'})
    assert loaded.settings is not None
    assert len(loaded.settings.domains) == 0
    (problem,) = loaded.problems
    assert (problem.level, problem.code, place(problem)[1]) == ("warning", "never_matches", 1)
    assert problem.text == f'"{listener}" is not a listener, so its entries match nothing.'
    assert problem.fix == 'Write IP:port, such as "127.0.0.1:25" or "[::1]:25", or "*" for every listener.'


@pytest.mark.parametrize(("text", "line", "key", "wrong", "fix"), ERRORS)
def test_errors(tmp_path: Path, text: str, line: int, key: str, wrong: str, fix: str) -> None:
    """Each mistake is one error that names file, line, key path, the bad value and what to write."""
    loaded = load_files(tmp_path, {"d.toml": text})
    assert loaded.settings is None
    (problem,) = loaded.problems
    assert (problem.level, *place(problem)) == ("error", "d.toml", line, key)
    assert (problem.text, problem.fix) == (wrong, fix)


def test_all_errors_in_one_run(tmp_path: Path) -> None:
    """Every problem of every file is found at once, sorted by file and line."""
    files = {f"{number:02}.toml": text for number, (text, *_) in enumerate(ERRORS)}
    problems = load_files(tmp_path, files).problems
    assert [place(problem) for problem in problems] == [
        (name, line, key) for name, (_, line, key, *_) in zip(files, ERRORS, strict=True)
    ]
    assert [problem.text for problem in problems] == [wrong for *_, wrong, _ in ERRORS]


def test_many_errors_in_one_domain(tmp_path: Path) -> None:
    """An error hides no other, not in the same table and not in the same list."""
    text = '["a b"]\nlog_oob = 1\nlog_arf = 1\nrelay_from = [\n"x",\n"::1",\n"y"]\nx = 1\n'
    problems = load_files(tmp_path, {"d.toml": text}).problems
    assert [place(problem)[1] for problem in problems] == [1, 2, 3, 5, 7, 8]


def test_json_errors(tmp_path: Path) -> None:
    """What only JSON can get wrong is found as well: repeated keys, and text that UTF-8 cannot hold."""
    text = '{"a.com": {"log_oob": true,\n"log_oob": false},\n"listener": {"127.0.0.1:25": {"b.com": 1}},\n"a.com": {}}'
    text = text[:-1] + ',\n"c.com": {"relay_from_authz": ["\\ud800"]}}'
    problems = load_files(tmp_path, {"d.json": text}).problems
    assert [(place(problem)[1:], problem.text) for problem in problems] == [
        ((1, '"a.com".log_oob'), "This has no effect, because line 2 has the same key."),
        ((1, '"a.com"'), "This has no effect, because line 4 has the same key."),
        ((3, 'listener."127.0.0.1:25"."b.com"'), "1 is not the table of a domain."),
        ((5, '"c.com".relay_from_authz'), '"\\ud800" is not a user name.'),
    ]


JSON_TABLES = 'Write tables such as "listener": {"127.0.0.1:25": {"example.com": {...}}}.'


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ('{"a.com": true}', 'Write "a.com": {...} with keys such as "relay_to": true in the braces.'),
        ('{"relay_to": true}', 'Write it in a table such as {"example.com": {...}}.'),
        ('{"listener": 1}', JSON_TABLES),
        ('{"listener": {"127.0.0.1:25": 1}}', JSON_TABLES),
    ],
)
def test_fixes_of_json_are_json(tmp_path: Path, text: str, fix: str) -> None:
    (problem,) = load_files(tmp_path, {"d.json": text}).problems
    assert problem.fix == fix


def test_ttl(tmp_path: Path) -> None:
    """A ttl is taken and has no effect, and each is warned of."""
    loaded = load_files(tmp_path, {"d.toml": '["a.com"]\nrelay_to = true\nttl = "5 minutes"\n'})
    assert loaded.settings is not None
    (problem,) = loaded.problems
    assert (problem.level, problem.code, place(problem)) == ("warning", "deprecated", ("d.toml", 3, '"a.com".ttl'))
