"""A text of listener domains held against the settings in use."""

import msgspec
import pytest

from sidecar.config.diff.trial import TextTrial, is_json_text, try_domains
from sidecar.core.records import decode
from tests.building import entry, settings
from tests.core.evaluate.recorded.samples import ours

USED = settings((entry("bounce.example", log_oob="LogThenDrop"), entry("relay.example", relay_to=True)))
FILE = "listener_domains.toml"
SAME = '["bounce.example"]\nlog_oob = "LogThenDrop"\n["relay.example"]\nrelay_to = true\n'


def tried(text: str, *records: bytes) -> TextTrial:
    found = try_domains(USED, text, FILE, map(decode, records))
    # It goes over a pipe.
    assert msgspec.json.decode(msgspec.json.encode(found), type=TextTrial).counts == found.counts
    return found


@pytest.mark.parametrize("text", [SAME, '{"bounce.example": {"log_oob": "LogThenDrop"}, "relay.example": {"relay_to": true}}'])
def test_the_same_domains_change_nothing(text: str) -> None:
    found = tried(text)
    assert (found.has_errors, sum(found.counts.values()), found.changes, found.verdicts) == (False, 0, (), None)


def test_what_opens_comes_first_with_its_line() -> None:
    found = tried('["*"]\nrelay_to = true\n["bounce.example"]\nlog_oob = "LogThenDrop"\n')
    first = found.changes[0]
    assert (first.effect, first.danger, first.key) == ("opens", True, '"*".relay_to')
    assert first.new is not None
    assert first.new.place == "new/listener_domains.toml:2"
    assert found.dangers == 1
    assert "open_relay" in [one.code for one in found.findings]


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ('["a.example"\n', "syntax_error", 1),
        ('["a.example"]\nlog_obb = true\n', "unknown_key", 2),
        ('["a.example"]\nrelay_from = ["10.0.0.1/8"]\n', "host_bits_set", 2),
        ('{"a.example": {"relay_to": 1}}', "wrong_type", 1),
        ("{", "syntax_error", 1),
    ],
)
def test_errors_end_it(text: str, code: str, line: int) -> None:
    found = tried(text)
    assert found.has_errors
    assert (found.findings[0].code, found.findings[0].line, found.findings[0].file) == (code, line, FILE)
    assert not found.counts


def test_recorded_envelopes_with_another_decision() -> None:
    record = msgspec.json.encode(ours())
    found = tried('["*"]\nrelay_to = true\n', record, record.replace(b"{", b'{"x":1,', 1))
    assert found.verdicts is not None
    assert found.verdicts.envelopes
    assert found.verdicts.records == 2


def test_a_line_that_is_no_record_counts_as_unreadable() -> None:
    found = try_domains(USED, SAME, FILE, [None])
    assert found.verdicts is not None
    assert found.verdicts.unreadable == 1


@pytest.mark.parametrize(
    ("text", "expected"), [(" {", True), ("// x\n{}", True), ("# x", False), ("", False), ('["a"]', False)]
)
def test_json_or_toml(text: str, expected: bool) -> None:
    assert is_json_text(text) == expected
