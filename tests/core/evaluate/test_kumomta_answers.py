"""What KumoMTA answered, held against the sidecar: every reply to RCPT and to the end of data.

`tests/data/kumomta/policies` has 8 policies and 1,950 questions with the answers of a running node (KumoMTA 2026-08-04).
`differences.jsonl` beside it has questions to which the default mode gives another answer, each with the reason.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import pytest
import zstandard
from msgspec import Struct
from msgspec.structs import replace

from sidecar.config import load
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.evaluate.explanation import Explanation, Question
from sidecar.core.settings.settings import Settings
from tests import DATA, ROOT
from tests.config.helpers import MAIN, settings_of

POLICIES: Final = DATA / "kumomta/policies"
CASES: Final = 1950
Mode = Literal["default", "compat"]
HEADINGS: Final = {"question", "---"}
_REPLIES: Final = {"accept": [250, ""], "discard": [250, ""], None: None}


class Difference(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question with several answers, as `[replies to RCPT, reply to the end of data]`.

    `follows` is the setting or the mode in which the sidecar answers as KumoMTA, or `none`.
    """

    what: str
    reason: str
    follows: str
    domains: str
    settings: str
    question: dict[str, Any]
    mail: str
    kumod: list[Any]
    default: list[Any]
    compat: list[Any]


def policies() -> Iterator[tuple[Settings, list[dict[str, Any]]]]:
    """Yield each policy with its questions."""
    for folder in sorted(path for path in POLICIES.iterdir() if path.is_dir()):
        settings = load(folder / MAIN, environ={}).settings
        assert settings is not None
        lines = zstandard.decompress((folder / "cases.jsonl.zst").read_bytes()).splitlines()
        yield settings, [json.loads(line) for line in lines]


@cache
def mail(name: str) -> bytes:
    """Return a message of the questions."""
    return (POLICIES / name).read_bytes()


def answers(evaluator: Evaluator, question: Question, message: bytes) -> list[Any]:
    """Return the replies to RCPT, without texts of our own, and the reply to the end of data."""
    numbers = count()
    found = evaluator.explain(question, message, clock=lambda: 0.0, new_id=lambda: next(numbers))
    rcpt = [reply(part.reply) if part.reply else [250, f"OK <{part.address}>"] for part in found.recipients]
    return [rcpt, end(found)]


def end(found: Explanation) -> list[Any] | None:
    """Return the reply to the end of data, or to the connection if there is no more."""
    if found.connect.reply is not None:
        return reply(found.connect.reply)
    return reply(found.message.reply) if found.message.reply else _REPLIES[found.message.action]


def reply(text: str) -> list[Any]:
    """Return code and text of a reply."""
    code, _, rest = text.partition(" ")
    return [int(code), rest]


@pytest.mark.parametrize("mode", ["default", "compat"])
def test_answers(mode: Mode) -> None:
    """All 1,950 answers are the same, in the default mode as with `compat`."""
    same = 0
    for settings, cases in policies():
        evaluator = Evaluator(in_mode(settings, mode))
        for case in cases:
            question = msgspec.convert(case["question"], Question)
            assert answers(evaluator, question, mail(question.message or "")) == [case["rcpt"], case["end"]], case
        same += len(cases)
    assert same == CASES


def in_mode(settings: Settings, mode: Mode) -> Settings:
    """Return settings as loading gives them with `compat = "kumomta"`."""
    return settings if mode == "default" else replace(settings, compat="kumomta", reject_at_connect=False)


DIFFERENCES: Final = [
    Difference(**json.loads(line)) for line in (DATA / "kumomta/differences.jsonl").read_text("utf-8").splitlines()
]


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.what)
def test_differences(tmp_path: Path, difference: Difference) -> None:
    """Each difference is there in the default mode, and gone in the mode or with the setting that follows KumoMTA."""
    files = {"domains.json": difference.domains, MAIN: f'listener_domains = "domains.json"\n{difference.settings}\n'}
    settings = settings_of(tmp_path, files)
    question = msgspec.convert(difference.question, Question)
    message = difference.mail.encode("latin-1")
    modes: tuple[tuple[Mode, list[Any]], ...] = (("default", difference.default), ("compat", difference.compat))
    for mode, expected in modes:
        assert answers(Evaluator(in_mode(settings, mode)), question, message) == expected, mode
    assert difference.default != difference.kumod
    if difference.follows == "compat":
        assert difference.compat == difference.kumod
    elif difference.follows == "none":
        assert difference.compat != difference.kumod
    else:
        followed = settings_of(tmp_path, files | {MAIN: f"{difference.follows}\n{files[MAIN]}"})
        assert answers(Evaluator(followed), question, message) == difference.kumod


def test_the_reference_has_every_difference() -> None:
    """The policy reference lists each difference under its heading, with the words of this table."""
    text = (ROOT / "deploy/docs/policy.md").read_text("utf-8")
    section = text.partition("\n## Exceptions\n")[2].partition("\n## ")[0]
    assert {difference.what for difference in DIFFERENCES} == set(re.findall(r"^\| (.+?) \|", section, re.MULTILINE)) - HEADINGS
