"""Classes in the records of a running sidecar, as an operator reads them, through changes of the rules."""

from tests.mta.processes import wait_until
from tests.wire.client import CONTINUE, DISCARD, Reply
from tests.wire.program import Program
from tests.wire.test_program import OOB

REFUSED = Reply("y", "550 5.7.1 relaying not permitted for 203.0.113.9:4444")


def classes(program: Program) -> dict[str, str]:
    """Send a report, and a recipient that is rejected. Return the class of each record, by type."""
    seen = len(program.records())
    with program.mta() as mta:
        mta.begin()
        assert mta.envelope(b"<s@x.example>", b"<a@else.example>") == [REFUSED]
        mta.abort()
        assert mta.envelope(b"<>", b"<sender@bounce.example>") == [CONTINUE]
        assert mta.content(OOB) == (DISCARD, [])
        mta.quit()
    return {record["type"]: record["bounce_classification"] for record in program.records()[seen:]}


def test_changed_rules_serve_and_bad_ones_do_not() -> None:
    """Each bounce and each refusal has its class; a changed rule file is loaded by itself, and a bad one changes nothing."""
    program = Program(settings='bounce_classifier = ["rules.toml", "iana"]')
    rules = program.directory / "rules.toml"
    rules.write_text("[rules]\nOurs = ['permitted']\n")
    with program:
        assert classes(program) == {"Rejection": "Ours", "Reception": "Uncategorized", "OOB": "InvalidRecipient"}
        rules.write_text("[rules]\nGone = ['no such user']\n")
        wait_until(lambda: program.count("reloaded") == 1, "the changed rules are loaded")
        changed = {"Rejection": "RelayDenied", "Reception": "Uncategorized", "OOB": "Gone"}
        assert classes(program) == changed
        rules.write_text("[rules]\nGone = ['(']\n")
        wait_until(lambda: program.count("the reload failed") == 1, "the bad rules are in the log")
        (line,) = [one for one in program.lines() if str(one.get("where", "")).startswith("rules.toml")]
        assert line["where"] == "rules.toml:2"
        assert classes(program) == changed
        assert program.stop() == 0
