"""Rule files and what is classified by them: any rules are taken or refused in words, and taken rules answer any text.

Owns what is true of a rule file and of a class by themselves. Never knows which class a response should have. An input is a
rule file in JSON, a byte 255, and the response's line.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import re2  # type: ignore[import-untyped]  # the package ships no annotations

from sidecar.config import load
from sidecar.config.rules import iana_rules
from sidecar.core.classifier import LINE_LIMIT, Classifier
from sidecar.core.findings import Finding

_FOLDER = Path(tempfile.gettempdir(), "sidecar-fuzz-classifier")
_PART = b"\xff"
_PATTERNS = (
    r"^550.+User.+unknown$",
    r"^(451|550) [45]\.1\.[1-4] ",
    r"(?i)quota|(?s).\z",
    r"[[:alpha:]\[\]-]{2,3}\p{Greek}\x{41}\Q.\E",
    r"(a+)+b",
    r"[a-z&&[^b]]\<\b{start}",
    r"(?=x)(?<!y)(?>z)\1",
    r"x{1000}{2}",
    r"{,3}",
    "\ud800",
)
_IANA = Classifier(iana_rules())
_CLASSES = {None, *(rule.bounce_class for rule in iana_rules())}


def seeds() -> Iterator[bytes]:
    """Give rules of every kind, good and bad, and responses that some of them fit."""
    lines = (b"550 5.1.1 User x unknown", "552 5.2.2 quota \u03b1\n".encode(), b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!")
    for line in lines:
        yield json.dumps({"rules": {"Some": list(_PATTERNS[:5]), "Other": ["."]}}).encode() + _PART + line
        for pattern in _PATTERNS:
            yield json.dumps({"rules": {"Some": [pattern], "\x1b": []}}).encode() + _PART + line
    yield b'{"rules": {"A": ["x"], "A": [1]}, "rule": {}}' + _PART


def check(data: bytes) -> None:
    """Check what comes of loading one rule file, and of one line."""
    rules, _, text = data.partition(_PART)
    line = text.decode("utf-8", "replace")
    assert _IANA.classify(line) in _CLASSES
    _FOLDER.mkdir(exist_ok=True)
    (_FOLDER / "rules.json").write_bytes(rules)
    (_FOLDER / "sidecar.toml").write_text('bounce_classifier = "rules.json"')
    loaded = load(_FOLDER / "sidecar.toml", environ={})
    for problem in loaded.problems:
        _check_problem(problem, rules.count(b"\n") + 1)
    if loaded.settings is None:
        return
    found = Classifier(loaded.settings.bounce_rules).rule(line)
    options = re2.Options()
    options.log_errors = False
    known = line[:LINE_LIMIT]
    fits = (rule for rule in loaded.settings.bounce_rules if re2.search(rule.pattern, known, options) is not None)
    assert found == next(fits, None)


def _check_problem(problem: Finding, lines: int) -> None:
    assert (problem.text + problem.fix).isprintable(), problem
    assert len(problem.text) < 1000, problem
    assert problem.line is not None
    assert 1 <= problem.line <= lines, problem
