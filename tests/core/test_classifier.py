"""Which rule fits a response, and the classes of the program's own rules."""

import random
import re
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.rules import REPETITION_LIMIT, iana_rules, pattern, repetition_size
from sidecar.core.classifier import LINE_LIMIT, Classifier
from sidecar.core.settings.values import BounceRule, Where


def rules(*pairs: tuple[str, str]) -> list[BounceRule]:
    """Make rules of (class, pattern) as files would: each stands on a line of its own."""
    return [
        BounceRule(pattern=one, bounce_class=name, where=Where(file="rules.toml", line=line, key=f"rules.{name}"))
        for line, (name, one) in enumerate(pairs, start=2)
    ]


IANA = Classifier(iana_rules())
ORDERED = Classifier(rules(("Foo", "woot"), ("Foo", "aaa"), ("Bar", "woot"), ("Bar", "bbb"), ("Last", "bbb"), ("Last", "ccc")))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("woot", "Foo"),
        ("550 bbb aaa", "Foo"),
        ("bbb", "Bar"),
        ("ccc bbb", "Bar"),
        ("ccc", "Last"),
        ("", None),
        ("AAA", None),
    ],
)
def test_the_first_rule_that_fits_counts(line: str, expected: str | None) -> None:
    """Of several rules that fit somewhere in the line, the one that was read first gives the class (KumoMTA's order)."""
    assert ORDERED.classify(line) == expected


def test_the_rule_is_told() -> None:
    """A class comes with the rule behind it: its file, line and key."""
    rule = ORDERED.rule("550 bbb")
    assert rule is not None
    assert (str(rule.where), rule.where.key, rule.pattern) == ("rules.toml:5", "rules.Bar", "bbb")


def test_without_rules_nothing_has_a_class() -> None:
    """No rules are no error."""
    assert Classifier([]).classify("550 5.1.1 no such user") is None


@pytest.mark.parametrize(
    ("one", "line", "fits"),
    [
        (r"^550.+User.+unknown$", "550 User x unknown", True),
        (r"^550.+User.+unknown$", "550 User x unknown, sorry", False),
        (r"^\d{3} [45]\.7\.(0|27) ", "554 5.7.27 null MX", True),
        (r"^\d{3} [45]\.7\.(0|27) ", "554 5.7.2 not that", False),
        (r"(?i)quota", "552 QUOTA exceeded", True),
        (r"(?P<code>5\d\d)\z", "421 550", True),
        (r"(?<code>^5\d\d)", "550", True),
        (r"\pL\p{Greek}", "é\u03b1", True),
        (r"[[:alpha:]]\x{e9}", "caf\u00e9", True),
        (r"a.b", "a\\nb", False),
        (r"a..b", "a\\nb", True),
        ("\t", "a\tb", True),
        ("", "anything", True),
    ],
)
def test_syntax(one: str, line: str, fits: object) -> None:
    """A pattern means what it means for KumoMTA: Rust's syntax, searched for anywhere in the line."""
    assert (Classifier(rules(("X", pattern(one)))).classify(line) == "X") is fits


# Subject and detail of every code in IANA's registry, and what it is called where a bounce has it.
CODES = {
    "0.0": None,
    "1.0": None,
    "1.1": "InvalidRecipient",
    "1.2": "InvalidRecipient",
    "1.3": "InvalidRecipient",
    "1.4": "InvalidRecipient",
    "1.5": None,
    "1.6": "InactiveMailbox",
    "1.7": "InvalidSender",
    "1.8": "InvalidSender",
    "1.9": None,
    "1.10": "BadDomain",
    "2.0": None,
    "2.1": "InactiveMailbox",
    "2.2": "QuotaIssues",
    "2.3": "QuotaIssues",
    "2.4": "InvalidRecipient",
    "3.0": None,
    "3.1": "QuotaIssues",
    "3.2": "BadConfiguration",
    "3.3": "BadConfiguration",
    "3.4": "QuotaIssues",
    "3.5": "BadConfiguration",
    "3.6": None,
    "4.0": None,
    "4.1": None,
    "4.2": "BadConnection",
    "4.3": "DNSFailure",
    "4.4": "RoutingErrors",
    "4.5": None,
    "4.6": "RoutingErrors",
    "4.7": "MessageExpired",
    **{f"5.{detail}": "ProtocolErrors" for detail in range(7)},
    **{f"6.{detail}": "ProtocolErrors" for detail in range(11)},
    **{f"7.{detail}": "AuthenticationFailed" for detail in (*range(13), 14, 15, *range(19, 27), 29, 30)},
    "7.13": "InactiveMailbox",
    "7.16": "PolicyRelated",
    "7.17": "InvalidRecipient",
    "7.18": "BadDomain",
    "7.27": "InvalidSender",
    "7.28": "PolicyRelated",
}
# What is only temporary has another class.
TEMPORARY = {
    "3.0": "TransientFailure",
    "3.2": "TransientFailure",
    "4.1": "NoAnswerFromHost",
    "4.5": "TransientFailure",
    "7.0": "TransientFailure",
    "7.1": "TransientFailure",
}


@pytest.mark.parametrize(("code", "expected"), CODES.items())
def test_status_codes(code: str, expected: str | None) -> None:
    """Each registered code has one class, with any reply code, whatever text follows it, even none."""
    for reply in (500, 525, 550, 554):
        assert IANA.classify(f"{reply} 5.{code} something") == expected
    assert IANA.classify(f"550 5.{code} ") == expected
    assert IANA.classify(f"451 4.{code} something") == TEMPORARY.get(code, expected)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("550 5.7.1 relaying not permitted for 203.0.113.9:4444", "RelayDenied"),
        ("550 5.1.1 5.1.1 no such user", "InvalidRecipient"),
        ("550 5.0.0 5.1.1 no such user", "InvalidRecipient"),
        ("550 5.0.0 550-5.2.2 The mailbox 550 5.2.2 is full", "QuotaIssues"),
        ("550 4.4.1 ", "NoAnswerFromHost"),
        ("550 5.4.1 5.4.1 Recipient address rejected: Access denied", None),
        ("550 5.1.10 5.1.10 RESOLVER.ADR.RecipientNotFound; not found", "InvalidRecipient"),
        ("550 5.1.10 5.1.10 Recipient address has a null MX", "BadDomain"),
        ("550 5.1.11 no such code", None),
        ("550 5.7.131 no such code", None),
        ("550 5.7.606 Access denied, banned sending IP", None),
        ("550 no such user, see 5.1.1", None),
        ("250 2.1.5 fine", None),
        ("352 5.2.2 no bounce", None),
        ("550 ", None),
    ],
)
def test_responses(line: str, expected: str | None) -> None:
    """The code counts where it stands as one: before the text, or in the text where the report's own status says nothing."""
    assert IANA.classify(line) == expected


def test_the_end_of_a_long_line_is_not_read() -> None:
    """Only so much of a line is looked at: an external host cannot buy time with length."""
    end = Classifier(rules(("End", "end")))
    assert end.classify("x" * (LINE_LIMIT - 3) + "end") == "End"
    assert end.classify("x" * (LINE_LIMIT - 2) + "end") is None


@pytest.mark.parametrize("piece", ["a", "550 ", "5.1.1 relaying ", "\\n", "\u00e9", "\ud800"])
def test_hostile_text_is_cheap(piece: str) -> None:
    """A pattern that costs backtracking engines hours costs no time here."""
    hard = Classifier(rules(("X", r"^(a+)+$"), ("Y", r"(.*a){12}b"), ("Z", r"(5\d\d .*)+ no")))
    line = piece * LINE_LIMIT
    begin = time.process_time()
    for _ in range(20):
        assert hard.classify(line + "!") in {None, "X", "Z"}
        IANA.classify(line)
    assert time.process_time() - begin < 2


@pytest.mark.parametrize("patterns", [["a[ab]{400}b"], ["a.{0,40}b"], [f"a.{{0,6}}b{index}" for index in range(8)]])
def test_the_most_counting_is_cheap(patterns: list[str]) -> None:
    """Rules that count as much as they may cost a hostile line some 20 ms at most; here, with room for a slow machine."""
    assert REPETITION_LIMIT * 0.8 < sum(map(repetition_size, patterns)) <= REPETITION_LIMIT
    counting = Classifier(rules(*(("X", one) for one in patterns)))
    line = "".join(random.Random(1).choices("ab\u00e9", k=4 * LINE_LIMIT))  # noqa: S311 - no secret
    begin = time.process_time()
    counting.classify(line)
    assert time.process_time() - begin < 0.2


_WORDS = st.sampled_from(["^550 ", "user", ".+", "unknown", "x", "[0-9]", "é", "$", "(?:quota)?", "a|b", r"\."])
_PATTERNS = st.lists(_WORDS, max_size=4).map("".join)
_LINES = st.text(alphabet="550 userunknownxab.é1\n", max_size=60)


@given(st.lists(_PATTERNS, max_size=8), _LINES)
def test_many_at_once_are_as_one_after_the_other(patterns: list[str], line: str) -> None:
    """Asking all rules at once gives what asking them in turn gives."""
    many = Classifier(rules(*((str(index), one) for index, one in enumerate(patterns))))
    # Python's `$` also fits before a line end.
    expected = next((str(index) for index, one in enumerate(patterns) if re.search(one.replace("$", r"\Z"), line)), None)
    assert many.classify(line) == expected


def test_threads() -> None:
    """Threads may ask one classifier at the same time."""
    lines = [
        (f"{reply} 5.{code} {number}", IANA.classify(f"550 5.{code} "))
        for number in range(20)
        for reply in (550, 554)
        for code in CODES
    ]
    wrong: list[str] = []

    def ask() -> None:
        fresh = [line for line, expected in lines if shared.classify(line) != expected]
        wrong.extend(fresh)

    shared = Classifier(iana_rules())
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
