"""What `check` proposes works: written into the file and loaded, it changes the names that the finding means, and no other."""

import ast
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import settings as tries
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.commands.check import advice
from sidecar.commands.check.advice import Fixer
from sidecar.commands.check.command import command
from sidecar.config import Reading
from sidecar.core.evaluate.changes import grants
from sidecar.core.evaluate.envelope import Envelope
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.evaluate.spelling import PERMISSIONS
from sidecar.core.findings import Finding
from sidecar.core.names import parents, plain_address
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import ANY_LISTENER
from tests import ROOT
from tests.core.evaluate.recorded.worlds import KINDS, LISTENER

Tables = Mapping[tuple[str, str], Mapping[str, Any]]

DOMAINS = [
    *("*", "*.example.com", "example.com", "b.example.com", "*.b.example.com", "a.b.example.com", "x.y.b.example.com", "*.com"),
    *("q.com", "mail", "mail.example.com", "*.mail.example.com", "default", "192.0.2.1", "[192.0.2.1]", "com", "other.test"),
]
# At, above, beside and below those.
NAMES = [
    *("example.com", "q.example.com", "b.example.com", "q.b.example.com", "a.b.example.com", "q.a.b.example.com"),
    *("y.b.example.com", "q.y.b.example.com", "x.y.b.example.com", "q.x.y.b.example.com", "com", "q.com", "p.q.com", "r.com"),
    *("mail", "q.mail", "mail.example.com", "q.mail.example.com", "default", "q.default", "192.0.2.1", "q.192.0.2.1"),
    *("[192.0.2.1]", "2.1", "other.test", "q.other.test", "test", "q.test", "org"),
]
LISTENERS = [ANY_LISTENER, LISTENER, "10.9.9.9:25"]
_EXTERNAL = [plain_address("198.51.100.7"), plain_address("203.0.113.9")]
PROBES = [
    Envelope(peer=peer, listener=listener, authz_id=login, sender=sender, recipients=(recipient,), kind=kind)
    for name in NAMES
    for listener in LISTENERS
    for peer, login, sender, recipient, kinds in (
        (_EXTERNAL[0], None, "", f"x@{name}", KINDS),
        (_EXTERNAL[1], None, f"x@{name}", "x@elsewhere.test", KINDS[:1]),
        (_EXTERNAL[0], "daniel", f"x@{name}", "x@elsewhere.test", KINDS[:1]),
    )
    for kind in kinds
]
"""Mail of external hosts to and from each of these names, on each listener: ordinary mail and reports."""

_MODES = st.sampled_from([True, False, "LogThenDrop", "LogThenRelay", "Ignore"])
_KEYS = st.fixed_dictionaries(
    {},
    optional={
        "relay_to": st.booleans(),
        "relay_from": st.sampled_from([[], ["203.0.113.0/24"], ["10.0.0.0/8"]]),
        "relay_from_authz": st.sampled_from([[], ["daniel"]]),
        "log_oob": _MODES,
        "log_arf": _MODES,
    },
)
_PLACES = st.tuples(st.sampled_from(LISTENERS[:2]), st.sampled_from(DOMAINS))
TABLES = st.dictionaries(_PLACES, _KEYS, max_size=6)


def toml(tables: Tables) -> str:
    """Write tables, each key on a line of its own."""
    lines: list[str] = []
    for (listener, domain), keys in tables.items():
        path = json.dumps(domain) if listener == ANY_LISTENER else f"listener.{json.dumps(listener)}.{json.dumps(domain)}"
        lines += [f"[{path}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]
    return "\n".join(lines) + "\n"


def loaded(text: str, file: str = "d.toml") -> tuple[Settings, list[Finding]]:
    """Load a listener domains file. Return the settings and the findings, with the tables that are proposed."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / file).write_text(text)
        (Path(folder) / "s.toml").write_text(f'listener_domains = "{file}"\n')
        reading = Reading(Path(folder) / "s.toml")
        made = reading.loaded.settings
        assert made is not None, reading.loaded.problems
        fixer = Fixer(made)
        return made, [fixer.fix(each) for each in reading.warnings()]


def reach(under: Evaluator, probe: Envelope) -> int:
    """Return how far a message gets."""
    outcome = str(under.judge(probe).outcome)
    return 0 if "rejected" in outcome else 1 if "dropped" in outcome else 2


def differences(before: Settings, after: Settings) -> Iterator[tuple[Envelope, bool]]:
    """Yield the mail that is decided otherwise, and True if it gets further: a report further than any mail did before."""
    old, new = Evaluator(before), Evaluator(after)
    for probe in PROBES:
        was, now = reach(old, probe), reach(new, probe)
        if was != now:
            yield probe, now > max(was, reach(old, replace(probe, kind="other")))


def name_of(probe: Envelope) -> str:
    return (probe.sender or probe.recipients[0]).removeprefix("x@")


# --- a wildcard that misses names


@given(TABLES)
@tries(max_examples=60, deadline=None)
def test_tables_for_missed_names_change_only_these(tables: Tables) -> None:
    """Each name that is decided otherwise had no entry in this map, and has now what the wildcard above it permits."""
    text = toml(tables)
    before, findings = loaded(text)
    for finding in (each for each in findings if each.code == "shadowed" and each.lines):
        after, _ = loaded(text + "\n".join(finding.lines) + "\n")
        new = {(one.listener, one.domain) for one in after.domains} - {(one.listener, one.domain) for one in before.domains}
        (listener,) = {listener for listener, _ in new}
        old_policy, new_policy = Evaluator(before).policy, Evaluator(after).policy
        for probe, _ in differences(before, after):
            name = name_of(probe)
            was, now = (policy.lookup(probe.listener, name) for policy in (old_policy, new_policy))
            assert was is None or was.listener != listener or was.domain == "*", finding
            assert now is not None
            assert (now.listener, now.domain) in new
            above = {"*", *(f"*.{parent}" for parent in parents(name))}
            wildcards = [one for one in before.domains if one.listener == listener and one.domain in above]
            assert grants(now) == grants(max(wildcards, key=lambda one: len(one.domain)))


@given(TABLES)
@tries(max_examples=60, deadline=None)
def test_all_tables_together(tables: Tables) -> None:
    """They can be pasted one after the other, the names of the texts match then, and these findings do not come again."""
    text = toml(tables)
    before, findings = loaded(text)
    shadowed = [each for each in findings if each.code == "shadowed"]
    if not shadowed or any(not each.lines and "The tables for" not in each.fix for each in shadowed):
        return
    after, left = loaded(text + "\n".join(line for each in shadowed for line in each.lines) + "\n")
    assert len(after.domains) > len(before.domains)
    assert [each for each in left if each.code == "shadowed"] == []


NESTED: Tables = {(ANY_LISTENER, "*.example.com"): {"log_oob": "LogThenDrop"}, (ANY_LISTENER, "x.y.b.example.com"): {}}


def test_the_lines_for_missed_names() -> None:
    """In the format of the file, after a sentence that says what they do."""
    _, (shadowed, *_) = loaded(toml(NESTED))
    line = 'log_oob = "LogThenDrop"'
    names = ["y.b.example.com", "b.example.com"]
    assert sorted(shadowed.lines[::2]) == sorted(f'["{each}"]' for name in names for each in (name, f"*.{name}"))
    assert set(shadowed.lines[1::2]) == {line}
    assert shadowed.fix == (
        "If they should match, add these tables. They give them what the wildcard permits, and change no other name:"
    )
    members = {domain: keys for (_, domain), keys in NESTED.items()}
    _, (in_json, *_) = loaded(json.dumps(members), "d.json")
    text = json.dumps(members)[:-1] + ",\n" + "\n".join(in_json.lines) + "}"
    both = loaded(text, "d.json")[0], loaded(toml(NESTED) + "\n".join(shadowed.lines))[0]
    first, second = ({one.domain: grants(one) for one in each.domains} for each in both)
    assert first == second
    assert len(first) == 6


@pytest.mark.parametrize("file", ["d.json", "d.conf"])
def test_no_second_table_of_listeners_in_json(file: str) -> None:
    """A file of any name but .toml is JSON, where the key "listener" can be there only once."""
    own = {"*.example.com": {"log_oob": "LogThenDrop"}, "b.a.example.com": {}}
    _, (shadowed, *_) = loaded(json.dumps({"listener": {LISTENER: own}}), file)
    assert shadowed.code == "shadowed"
    assert shadowed.lines == ()
    assert shadowed.fix is not None
    assert "No table is proved to do only that" in shadowed.fix


@pytest.mark.parametrize(
    ("tables", "code"),
    [
        # On this listener "*.com" would replace what q.com has for every listener.
        (
            {
                (ANY_LISTENER, "q.com"): {"log_oob": "LogThenDrop"},
                (LISTENER, "*"): {},
                (LISTENER, "b.example.com"): {"relay_to": True},
            },
            "shadowed",
        ),
        # Twenty tables are no advice.
        ({(ANY_LISTENER, "*.example.com"): {"relay_to": True}, (ANY_LISTENER, f"{'a.' * 11}example.com"): {}}, "shadowed"),
        # Under a wildcard a new name hides the names below it, and only the operator knows the name.
        (
            {(ANY_LISTENER, "mail"): {"log_arf": True}, (ANY_LISTENER, "*.example.com"): {"relay_to": True}},
            "single_label",
        ),
        # Without its own table, any host could send any mail to this name.
        ({(ANY_LISTENER, "mail"): {"log_oob": "LogThenDrop"}, (ANY_LISTENER, "*"): {"relay_to": True}}, "single_label"),
        # These would be the second tables of their names.
        ({(ANY_LISTENER, "192.0.2.1"): {"relay_to": True}, (ANY_LISTENER, "[192.0.2.1]"): {}}, "never_matches"),
        ({(ANY_LISTENER, "default"): {}, (ANY_LISTENER, "*"): {"log_oob": "LogThenDrop"}}, "never_matches"),
        # On this listener "*" would replace all entries of every listener.
        ({(LISTENER, "default"): {}, (ANY_LISTENER, "q.com"): {"log_oob": "LogThenDrop"}}, "never_matches"),
        # Every domain would accept reports.
        ({(ANY_LISTENER, "default"): {"log_oob": "LogThenDrop"}}, "never_matches"),
    ],
)
def test_what_cannot_be_proved_is_not_proposed(tables: Tables, code: str) -> None:
    _, findings = loaded(toml(tables))
    finding = next(each for each in findings if each.code == code)
    assert finding.lines == ()
    assert finding.fix.endswith("No table is proved to do only that: compare your own change with `sidecar diff`.")


# --- a name that means another one


@given(TABLES)
@tries(max_examples=60, deadline=None)
def test_a_table_for_the_name_that_was_meant(tables: Tables) -> None:
    """The new name has what the old one had. No mail gets further for the old name, and no other name changes."""
    text = toml(tables)
    before, findings = loaded(text)
    places = {
        text[: match.start()].count("\n") + 1: match[0] for match in re.finditer(r"^\[.*\n([^[].*\n)*", text, re.MULTILINE)
    }
    for finding in (each for each in findings if each.code in {"single_label", "never_matches"} and each.lines):
        assert finding.line is not None
        old = name_in(places[finding.line])
        after, _ = loaded(text.replace(places[finding.line], "", 1) + "\n".join(finding.lines) + "\n")
        assert len(after.domains) == len(before.domains)
        (new,) = {(one.listener, one.domain) for one in after.domains} - {(one.listener, one.domain) for one in before.domains}
        is_old = {(one.listener, one.domain): one for one in before.domains}[new[0], old]
        is_new = {(one.listener, one.domain): one for one in after.domains}[new]
        assert grants(is_old) == grants(is_new)
        for probe, opens in differences(before, after):
            assert name_of(probe) == new[1] or (name_of(probe) == old and not opens), finding


def name_in(block: str) -> str:
    """Return the domain of a table."""
    name: str = json.loads(re.findall(r'"[^"]*"', block.partition("\n")[0])[-1])
    return name


def test_the_table_for_a_single_label() -> None:
    """An example in place of the domain that only the operator knows."""
    _, (finding, *_) = loaded('["mail"]\nlog_oob = "LogThenDrop"\n')
    assert finding.lines == ('["mail.example.com"]', 'log_oob = "LogThenDrop"')
    assert finding.fix == (
        "Replace this table by the following one, with your domain in place of mail.example.com, or leave it if your "
        "addresses are that short:"
    )


def test_a_literal() -> None:
    _, findings = loaded('[listener."10.1.1.1:25"."[2001:db8::1]"]\nlog_oob = "LogThenDrop"\n')
    (finding,) = [each for each in findings if each.code == "never_matches"]
    assert finding.lines == ('[listener."10.1.1.1:25"."[ipv6:2001:db8::1]"]', 'log_oob = "LogThenDrop"')


# --- findings that propose a value, or to remove a table

OPENINGS = {"open_relay", "report_relay", "wide_reports", "report_loop"}


@given(TABLES)
@tries(max_examples=60, deadline=None)
def test_a_proposed_value_opens_nothing(tables: Tables) -> None:
    """`false` in place of what opens too much, and "LogThenDrop" for `true`, let no mail get further."""
    text = toml(tables)
    before, findings = loaded(text)
    lines = text.split("\n")
    for finding in findings:
        if finding.code in {"open_relay", "report_relay", "wide_reports", "report_loop"} and "relay_from" not in str(
            finding.key
        ):
            assert finding.line is not None
            assert finding.fix.startswith(("Write relay_to = false here", "Write false here", 'Write "LogThenDrop"'))
            value = '"LogThenDrop"' if finding.code == "report_loop" else "false"
            key, changed = lines[finding.line - 1].split(" = ")[0], [*lines]
            changed[finding.line - 1] = f"{key} = {value}"
            after, _ = loaded("\n".join(changed))
            assert not any(opens for _, opens in differences(before, after)), finding


@given(TABLES)
@tries(max_examples=60, deadline=None)
def test_a_table_without_effect_can_be_removed_or_filled(tables: Tables) -> None:
    """No mail is decided otherwise without it, and with the proposed line only that of its own names."""
    text = toml(tables)
    before, findings = loaded(text)
    for finding in (each for each in findings if each.code == "no_effect"):
        assert finding.line is not None
        lines = text.split("\n")
        more = "\n".join([*lines[: finding.line], 'log_oob = "LogThenDrop"', *lines[finding.line :]])
        del lines[finding.line - 1]
        assert list(differences(before, loaded("\n".join(lines))[0])) == []
        policy, name = Evaluator(before).policy, name_in(text.split("\n")[finding.line - 1])
        for probe, _ in differences(before, loaded(more)[0]):
            entry = policy.lookup(probe.listener, name_of(probe))
            assert entry is not None
            assert entry.domain == name


# --- as the operator sees it


def test_the_command_prints_the_tables(tmp_path: Path) -> None:
    """Below the finding, each line as it is pasted; and as `lines` in JSON."""
    (tmp_path / "d.toml").write_text(toml(NESTED))
    (tmp_path / "s.toml").write_text('listener_domains = "d.toml"\n')
    shown = CliRunner().invoke(command, ["--config", str(tmp_path / "s.toml")]).output
    assert '    ["b.example.com"]\n    log_oob = "LogThenDrop"\n' in shown
    found = json.loads(CliRunner().invoke(command, ["--config", str(tmp_path / "s.toml"), "--json"]).output)["findings"]
    (lines,) = [each["lines"] for each in found if each["code"] == "shadowed"]
    assert '["*.y.b.example.com"]' in lines
    assert all(each["lines"] == [] for each in found if each["code"] != "shadowed")


def test_a_large_configuration_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """To leave out one of a million entries would take seconds."""
    text = '["mail"]\nlog_oob = "LogThenDrop"\n["b.test"]\nlog_oob = "LogThenDrop"\n'
    for limit in (2, 1):
        monkeypatch.setattr(advice, "_ENTRIES_LIMIT", limit)
        (finding,) = [each for each in loaded(text)[1] if each.code == "single_label"]
        assert bool(finding.lines) == (limit == 2)


@pytest.mark.parametrize("package", ["diff", "doctor"])
def test_no_other_command_writes_lines_of_its_own(package: str) -> None:
    """No text of them has a setting with a value. The doctor's tables come from a changed configuration."""
    setting = re.compile(rf"\b({'|'.join((*PERMISSIONS, 'relay_hosts', 'listener_domains'))})\b\"? *[=:] *[\[\"tf{{]")
    for path in (ROOT / "sidecar/commands" / package).rglob("*.py"):
        strings = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
        assert [text for text in strings if isinstance(text, str) and setting.search(text)] == []
