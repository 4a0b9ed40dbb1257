"""The section [suppression], and the rules that never match or punish an address for what it has not done."""

from pathlib import Path

import pytest

from sidecar.core.settings.suppression import SUPPRESSION_RULES, SuppressionRule, SuppressionSettings
from sidecar.core.settings.values import Where
from tests.config.helpers import MAIN, load_files, place, settings_of

CLASSES = 'bounce_classifier = ["iana"]\n'


def test_defaults(tmp_path: Path) -> None:
    """An empty section has them all; without the section there is no list."""
    assert settings_of(tmp_path, {MAIN: ""}).suppression is None
    found = settings_of(tmp_path, {MAIN: 'state_directory = "s"\n[suppression]'}).suppression
    assert found == SuppressionSettings(database=tmp_path / "s/suppression.db", rule=SUPPRESSION_RULES)


def test_trust_where_reports_are_verified(tmp_path: Path) -> None:
    """A forged report must not suppress an address, unless the settings say so."""
    (tmp_path / "secret").write_text("0123456789abcdef" * 4)
    (tmp_path / "secret").chmod(0o600)
    verify = '[verify]\nsecret_files = "secret"\n[suppression]\n'
    found = [settings_of(tmp_path, {MAIN: CLASSES + verify + more}).suppression for more in ("", 'trust = "any"')]
    assert [one and one.trust for one in found] == ["recipient", "any"]


def test_every_key(tmp_path: Path) -> None:
    text = """[suppression]
database = "x.db"
trust = "recipient"
store = "hashed"
[[suppression.rule]]
when = ["abuse"]
[[suppression.rule]]
when = ["InvalidRecipient", "BadDomain"]
count = 3
days = 2
within = 86400
expire = 7200
"""
    found = settings_of(tmp_path, {MAIN: CLASSES + text}).suppression
    first, second = (Where(file=str(tmp_path / MAIN), line=line, key="suppression.rule") for line in (6, 8))
    assert found == SuppressionSettings(
        database=tmp_path / "x.db",
        trust="recipient",
        store="hashed",
        rule=(
            SuppressionRule(when=("abuse",), where=first),
            SuppressionRule(when=("InvalidRecipient", "BadDomain"), count=3, days=2, within=86400, expire=7200, where=second),
        ),
    )


@pytest.mark.parametrize(
    ("text", "code", "line", "key", "said"),
    [
        ('trust = "all"', "invalid_value", 3, "trust", '"all" is not one of "any", "message" or "recipient".'),
        ("databse = 1", "unknown_key", 3, "databse", '"databse" is not a known key.'),
        ("rule = 1", "wrong_type", 3, "rule", "1 is not a list of tables."),
        ("rule = [1]", "wrong_type", 3, "rule", "1 is not a table."),
        ("[[suppression.rule]]\ncount = 2", "missing_key", 3, "rule", "The rule has no when."),
        ("[[suppression.rule]]\nwhen = []", "invalid_value", 4, "rule.when", "The list is empty."),
        ('[[suppression.rule]]\nwhen = "abuse"', "wrong_type", 4, "rule.when", '"abuse" is not a list.'),
        ('[[suppression.rule]]\nwhen = ["abuse"]\ncount = 0', "out_of_range", 5, "rule.count", "0 is out of range."),
        ('[[suppression.rule]]\nwhen = ["abuse"]\nday = 1', "unknown_key", 5, "rule.day", '"day" is not a known key.'),
        (
            '[[suppression.rule]]\nwhen = ["abuse"]\n[[suppression.rule]]\nwhen = ["virus"]\ndays = 2',
            "conflict",
            7,
            "rule.days",
            "1 report cannot be of 2 days.",
        ),
    ],
)
def test_errors(tmp_path: Path, text: str, code: str, line: int, key: str, said: str) -> None:
    """Each has its line, also in the second rule."""
    (problem,) = [
        one for one in load_files(tmp_path, {MAIN: f"{CLASSES}[suppression]\n{text}\n"}).problems if one.level == "error"
    ]
    assert (problem.code, place(problem), problem.text) == (code, (MAIN, line, f"suppression.{key}"), said)
    assert problem.fix


@pytest.mark.parametrize(
    ("rule", "code", "line", "said"),
    [
        ('when = ["not-spam"]', "never_matches", 3, "are no complaints: they never count"),
        ('when = ["InvalidRecipent"]', "never_matches", 3, "is no feedback type, and no class"),
        ('when = ["Abuse"]', "never_matches", 3, "is no feedback type, and no class"),
        ('when = ["abuse", "abuse"]\n[[suppression.rule]]\nwhen = ["abuse"]', "never_matches", 5, "in an earlier rule already"),
        ('when = ["abuse"]\ncount = 9\ndays = 9\nwithin = 86400', "never_matches", 7, "24 hours never touch 9 days"),
        ('when = ["PolicyRelated"]', "policy_block", 3, "is not about the mailbox"),
        ('when = ["Uncategorized"]', "policy_block", 3, "is not about the mailbox"),
        ('when = ["abuse"]\nwithin = 86400', "no_effect", 5, "the first report suppresses the address"),
    ],
)
def test_probable_mistakes(tmp_path: Path, rule: str, code: str, line: int, said: str) -> None:
    loaded = load_files(tmp_path, {MAIN: f"{CLASSES}[suppression]\n[[suppression.rule]]\n{rule}\n"})
    (problem,) = loaded.problems
    assert (problem.level, problem.code, problem.line) == ("warning", code, line)
    assert said in problem.text
    assert problem.fix


def test_no_classes_and_no_proof(tmp_path: Path) -> None:
    """Without classes only complaints count; without `meta.verified` nothing has a proof, and without the ids repeats count."""
    text = '[suppression]\ntrust = "message"\n[journal]\nmeta = ["why"]\n'
    problems = load_files(tmp_path, {MAIN: text}).problems
    assert [(one.code, one.line) for one in problems] == [("never_matches", line) for line in (1, 2, 2)] + [("weak_proof", 2)]
    assert "bounce_classifier" in problems[0].text
    (unverified,) = load_files(tmp_path, {MAIN: CLASSES + text.replace('"why"', '"ver*"')}).problems
    assert "Without a section [verify]" in unverified.text
    assert not load_files(tmp_path, {MAIN: CLASSES + text.replace('"message"', '"any"')}).problems


def test_checks(tmp_path: Path) -> None:
    """The check by the domain of the envelope sender, its own or that of the nearest parent, and the place of each."""
    text = """[suppression]
check = "log"
on_unreadable = "tempfail"
[suppression.domain."News.Example"]
check = "reject"
[suppression.domain."*.news.example"]
check = "off"
[suppression.domain."none.example"]
"""
    found = settings_of(tmp_path, {MAIN: CLASSES + text}).suppression
    assert found is not None
    assert found.on_unreadable == "tempfail"
    checks = {domain: found.check_of(domain) for domain in ("news.example", "a.b.news.example", "none.example", "")}
    assert {domain: (check, where and where.line) for domain, (check, where) in checks.items()} == {
        "news.example": ("reject", 6),
        "a.b.news.example": ("off", 8),
        "none.example": ("log", 3),
        "": ("log", 3),
    }
    assert checks["news.example"][1] == Where(file=str(tmp_path / MAIN), line=6, key='suppression.domain."News.Example".check')


@pytest.mark.parametrize(
    ("text", "code", "line", "said"),
    [
        ('check = "no"', "invalid_value", 3, '"no" is not one of'),
        ('on_unreadable = "accept"', "no_effect", 3, "No recipient is checked"),
        ('[suppression.domain."a b"]', "invalid_value", 3, '"a b" is not a domain.'),
        ('[suppression.domain."a.b"]\n[suppression.domain."A.B"]', "repeated_domain", 4, "the same domain as on line 3"),
        ('[suppression.domain."a.b"]\ncheck = "log"\nstore = "hashed"', "unknown_key", 5, '"store" is not a known key'),
    ],
)
def test_faults_of_checks(tmp_path: Path, text: str, code: str, line: int, said: str) -> None:
    problems = load_files(tmp_path, {MAIN: f"{CLASSES}[suppression]\n{text}\n"}).problems
    assert [(one.code, one.line) for one in problems] == [(code, line)]
    assert said in problems[0].text
