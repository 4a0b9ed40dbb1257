"""Rule files for classes of bounces: what they may hold, in which order it counts, and every error with its place."""

import json
from pathlib import Path

import pytest

from sidecar.config.files import read_document
from sidecar.config.findings import Findings
from sidecar.config.rules import IANA_FILE, iana_rules, read_rules
from sidecar.core.findings import Finding
from sidecar.core.settings.values import BounceRule
from tests.config.helpers import MAIN, load_files, place, settings_of

ONE = """\
# our own
[rules]
SpamBlock = [
  'blocked',  # by anyone
  '^554 .*listed',
]
"Own class" = ['^550 5\\.1\\.1 ']
Empty = []
"""


def in_short(rules: tuple[BounceRule, ...]) -> list[tuple[str, str, str, int]]:
    """Give class, pattern, file and line of each rule."""
    return [(rule.bounce_class, rule.pattern, rule.where.file, rule.where.line) for rule in rules]


def problems_of(folder: Path, rules: str, name: str = "rules.toml") -> tuple[Finding, ...]:
    """Load settings with one rule file."""
    return load_files(folder, {name: rules, MAIN: f'bounce_classifier = ["{name}"]\n'}).problems


def test_order(tmp_path: Path) -> None:
    """Files count in the order they are named in, and rules in their file's; the class is any name."""
    two = '[rules]\nZ = ["z"]\nA = ["a"]\n'
    settings = settings_of(tmp_path, {"1.toml": ONE, "2.toml": two, MAIN: 'bounce_classifier = ["2.toml", "1.toml"]'})
    assert in_short(settings.bounce_rules) == [
        ("Z", "z", "2.toml", 2),
        ("A", "a", "2.toml", 3),
        ("SpamBlock", "blocked", "1.toml", 4),
        ("SpamBlock", "^554 .*listed", "1.toml", 5),
        ("Own class", r"^550 5\.1\.1 ", "1.toml", 7),
    ]
    assert settings.bounce_rules[-1].where.key == 'rules."Own class"'


def test_json(tmp_path: Path) -> None:
    """A rule file may be JSON, and a single file may be named without a list."""
    text = json.dumps({"rules": {"B": ["b\\d", "c"], "A": ["a"]}}, indent=1)
    settings = settings_of(tmp_path, {"rules.json": text, MAIN: 'bounce_classifier = "rules.json"'})
    assert in_short(settings.bounce_rules) == [
        ("B", r"b\d", "rules.json", 4),
        ("B", "c", "rules.json", 5),
        ("A", "a", "rules.json", 8),
    ]


def test_the_programs_own_rules(tmp_path: Path) -> None:
    """The word iana is the set that comes with the program; it has no problems, and takes its place in the order."""
    findings = Findings()
    assert read_rules(read_document(IANA_FILE, "iana"), findings) == list(iana_rules())
    assert findings.errors == []
    settings = settings_of(tmp_path, {"own.toml": ONE, MAIN: 'bounce_classifier = ["own.toml", "iana"]'})
    assert settings.bounce_rules[3:] == iana_rules()
    assert {rule.where.file for rule in iana_rules()} == {"iana"}


def test_an_upgrade_of_the_programs_own_rules_is_no_change_of_the_settings(tmp_path: Path) -> None:
    """A running program watches the files that it read. A package replaces the program's own rules under it."""
    loaded = load_files(tmp_path, {"own.toml": ONE, MAIN: 'bounce_classifier = ["iana", "own.toml"]'})
    assert [source.path.name for source in loaded.sources] == [MAIN, "own.toml"]


def test_none(tmp_path: Path) -> None:
    """Without the key there are no rules."""
    assert settings_of(tmp_path, {MAIN: ""}).bounce_rules == ()


@pytest.mark.parametrize(
    ("value", "text"), [("1", "1 is not a list."), ("[1]", "1 is not a rule file."), ('""', '"" is not a rule file.')]
)
def test_names(value: str, text: str, tmp_path: Path) -> None:
    """The key takes names of files, in a list or a single one."""
    (problem,) = load_files(tmp_path, {MAIN: f"bounce_classifier = {value}"}).problems
    assert (place(problem), problem.text) == ((MAIN, 1, "bounce_classifier"), text)


def test_sources(tmp_path: Path) -> None:
    """Every rule file is a source, also one that cannot be read: a change of any is a reason to load again."""
    files = {"good.toml": ONE, "bad.toml": "[rules", MAIN: 'bounce_classifier = ["good.toml", "bad.toml", "none.toml"]'}
    loaded = load_files(tmp_path, files)
    assert loaded.settings is None
    assert [source.path.name for source in loaded.sources] == [MAIN, "good.toml", "bad.toml", "none.toml"]
    assert {place(problem) for problem in loaded.problems} == {("bad.toml", 1, ""), (MAIN, 1, "bounce_classifier")}


@pytest.mark.parametrize(
    ("rules", "line", "key", "words"),
    [
        ("", 1, "rules", "The file has no rules."),
        ("rules = 1", 1, "rules", "1 is not a table."),
        ("[rules]\nA = 'x'", 2, "rules.A", '"x" is not a list.'),
        ("[rules]\nA = ['x',\n1]", 3, "rules.A", "1 is not a regular expression."),
        ("[rules.A]\nx = ['x']", 1, "rules.A", "a table is not a list."),
        ("[rules]\n'' = ['x']", 2, 'rules.""', '"" is not the name of a class.'),
        ('[rules]\n"\\u001b" = ["x"]', 2, 'rules."\\u001b"', '"\\u001b" is not the name of a class.'),
        ("[rules]\n[rule]", 2, "rule", '"rule" is not a known key.'),
    ],
)
def test_errors(rules: str, line: int, key: str, words: str, tmp_path: Path) -> None:
    """What is no rule file is named with its file, line and key."""
    (problem,) = problems_of(tmp_path, rules)
    assert (problem.level, place(problem), problem.text) == ("error", ("rules.toml", line, key), words)


def test_a_key_that_stands_twice(tmp_path: Path) -> None:
    """JSON takes a class that stands twice, and keeps one: that is an error, as in TOML."""
    (problem,) = problems_of(tmp_path, '{"rules": {"A": ["x"],\n"A": ["y"]}}', "rules.json")
    assert (place(problem), problem.text) == (("rules.json", 2, "rules.A"), "This key is on line 1 already.")


@pytest.mark.parametrize(
    ("pattern", "text", "fix"),
    [
        (r"a(?=b)", 'invalid perl operator "(?="', "Look-around is not supported"),
        (r"(?!a)b", 'invalid perl operator "(?!"', "Look-around is not supported"),
        (r"(?<=a)b", 'invalid perl operator "(?<="', "Look-around is not supported"),
        (r"(?<!a)b", 'invalid perl operator "(?<!"', "Look-around is not supported"),
        (r"(a)\1", r'invalid escape sequence "\\1"', "Back-references are not supported"),
        (r"(?P<a>a)(?P=a)", 'invalid perl operator "(?P"', "Back-references are not supported"),
        (r"(?x) a", 'invalid perl operator "(?x"', "Supported are (?i)"),
        (r"(?-u)a", 'invalid perl operator "(?-u"', "Supported are (?i)"),
        (r"a{2000}", 'invalid repetition size "{2000}"', "up to 1000 times"),
        (r"a++", 'bad repetition operator "++"', "Write one repetition"),
        (r"\h", r'invalid escape sequence "\\h"', "a backslash before a literal"),
        (r"(a", 'missing ) "(a"', "a backslash before a literal"),
        (r"a)", 'unexpected ) "a)"', "a backslash before a literal"),
        (r"[a", 'missing ] "[a"', "a backslash before a literal"),
        (r"*a", 'no argument for repetition operator "*"', "a backslash before a literal"),
        ("a\\", "trailing \\", "a backslash before a literal"),
        (r"[z-a]", 'invalid character class range "z-a"', "the lower character first"),
        (r"\p{Letter}", r'invalid character class range "\\p{Letter}"', "by short name"),
        ("x" * 1_000_000, "pattern too large - compile failed", "Write a shorter pattern"),
        (r"\<user\>", r"has \<, which is a word edge in KumoMTA", r"Write \b"),
        (r"\b{start}user", r"has \b{, which is a word edge in KumoMTA", r"Write \b"),
        (r"a{,3}", "has a { that begins no repetition", r"Write \{"),
        (r"{name}", "has a { that begins no repetition", r"Write \{"),
        (r"[a-z&&[^b]]", "combines character classes", "Write one class"),
        (r"[a-z--b]", "combines character classes", "Write one class"),
        (r"x[[a]b]", "combines character classes", "Write one class"),
        ("\ud800", "has half a surrogate pair", "Write the character itself"),
    ],
)
def test_patterns_that_cannot_be(pattern: str, text: str, fix: str, tmp_path: Path) -> None:
    """A pattern that means nothing here, or something else than for KumoMTA, is an error that says what to write."""
    (problem,) = problems_of(tmp_path, json.dumps({"rules": {"A": ["fine", pattern]}}, indent=1), "rules.json")
    assert place(problem) == ("rules.json", 5, "rules.A")
    assert text in problem.text
    assert fix in problem.fix
    assert len(problem.text) < 250
    assert (problem.text + problem.fix).isprintable()


@pytest.mark.parametrize(
    "pattern",
    [
        r"\{name\}",
        r"\\<",
        r"a{3}b{3,}c{3,4}",
        r"[{}]",
        r"[[:alpha:]\[&-]",
        r"[]a]",
        r"[^]a]",
        r"\p{Greek}\x{41}{2}",
        r"\\{2}",
        "<b>",
    ],
)
def test_patterns_that_only_look_odd(pattern: str, tmp_path: Path) -> None:
    """Braces, brackets and angles that are meant themselves, or belong to something known, are no errors."""
    assert problems_of(tmp_path, json.dumps({"rules": {"A": [pattern]}}), "rules.json") == ()


def test_several_faults(tmp_path: Path) -> None:
    """All bad patterns of a class are told in one run, each on its own line."""
    found = problems_of(tmp_path, "[rules]\nA = [\n'(',\n'x',\n'[']\nB = ['*']")
    assert [place(problem)[1:] for problem in found] == [(3, "rules.A"), (5, "rules.A"), (6, "rules.B")]


@pytest.mark.parametrize(
    ("count", "form", "fine"),
    [(2000, "w{}", True), (2001, "w{}", False), (30, "w{}.{{1,200}}x", True), (100, "w{}.{{1,200}}x", False)],
)
def test_too_much_together(count: int, form: str, fine: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patterns that are too many, or together need too much memory, are an error of the key that names their files."""
    monkeypatch.setattr("sidecar.core.classifier.MEMORY_LIMIT", 8 << 20)
    monkeypatch.setattr("sidecar.config.rules.REPETITION_LIMIT", 1 << 30)
    found = problems_of(tmp_path, json.dumps({"rules": {"A": [form.format(number) for number in range(count)]}}), "rules.json")
    assert [place(problem) for problem in found] == ([] if fine else [(MAIN, 1, "bounce_classifier")])
    assert all(f"The {count} patterns together are too large" in problem.text for problem in found)


def test_hidden(tmp_path: Path) -> None:
    """A pattern that stands for another class before is worth a warning; for the same class it is not."""
    files = {"1.toml": ONE, "2.toml": "[rules]\nSpamBlock = ['blocked']\nOther = ['x',\n'blocked']"}
    loaded = load_files(tmp_path, {**files, MAIN: 'bounce_classifier = ["1.toml", "2.toml"]'})
    assert loaded.settings is not None
    (problem,) = loaded.problems
    assert (problem.level, place(problem)) == ("warning", ("2.toml", 4, "rules.Other"))
    assert problem.text == 'The pattern "blocked" is already in rules.SpamBlock (1.toml:4), and the first rule counts.'


@pytest.mark.parametrize(
    "patterns",
    [
        [r"a.{0,300}b"],
        [r"x{2}", *(f"a.{{{number}}}b" for number in range(1, 60))],
        [r"a(?:.{9}){40}b"],
        [r"a[\pL\pN]{20}b"],
    ],
)
def test_counting_costs(patterns: list[str], tmp_path: Path) -> None:
    """Rules that count more than a hostile line may cost are an error, at the one that counts most, wherever it counts."""
    rules = "[rules]\nA = [\n" + "".join(f"'{one}',\n" for one in patterns) + "]\n"
    (problem,) = problems_of(tmp_path, rules)
    assert (problem.level, place(problem)) == ("error", ("rules.toml", len(patterns) + 2, "rules.A"))
    assert "counted repetitions" in problem.text
    assert "Write .* or .+ instead" in problem.fix


def test_usual_counting_is_fine(tmp_path: Path) -> None:
    """Digits, short gaps, and braces that count nothing are no trouble; nor are our own rules beside them."""
    rules = r"[rules]" + "\n" + r"A = ['^\d{3} [45]\.\d{1,3}\.\d{1,3} ', 'user.{0,40}unknown', 'a\{300}', '[{300}]']"
    files = {"rules.toml": rules, MAIN: 'bounce_classifier = ["rules.toml", "iana"]\n'}
    assert load_files(tmp_path, files).problems == ()
