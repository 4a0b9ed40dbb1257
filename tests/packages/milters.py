"""The order of milters in the guide for Postfix, with rspamd, OpenDKIM and OpenDMARC: what is lost in another order.

`make test-packages` runs it: rspamd needs seconds to start. pytest does not collect it by itself.
"""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests import ROOT

SPAM = "554 5.7.1 Gtube pattern"
OK = "250 2.0.0 Ok"
SIGNED = {"DKIM-Signature: v=1;", "d=send.example"}


Results = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def results() -> dict[str, Results]:
    """The results of all messages, with the sidecar at the first and at the last place."""
    command = ["unshare", "--net", "--mount", sys.executable, "-m", "tests.packages.milter_order"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Results] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("name", "reply", "records", "dispositions"),
    [
        ("a relay host's mail", OK, ["Reception"], ["relayed"]),
        ("a bounce report", OK, ["Reception", "OOB"], ["logged_and_dropped"]),
        ("a bounce report that quotes spam, dropped", OK, ["Reception", "OOB"], ["logged_and_dropped"]),
        ("a bounce report that quotes spam, relayed", SPAM, ["Reception", "OOB"], ["logged_and_relayed"]),
        ("mail to a bounce domain", "550 5.7.1 relaying not permitted", ["Rejection"], ["rejected_at_end"]),
        ("mail to an open domain", OK, ["Reception"], ["relayed"]),
        ("spam to an open domain", SPAM, ["Reception"], ["relayed"]),
    ],
)
def test_the_order_of_the_guide(
    results: dict[str, Results], name: str, reply: str, records: list[str], dispositions: list[str]
) -> None:
    """A later milter cannot reject a report that is dropped. Of other mail the record says what the sidecar decided."""
    found = results["first"][name]
    assert (found["reply"], found["records"], found["dispositions"]) == (reply, records, dispositions)


def test_the_other_filters(results: dict[str, Results]) -> None:
    """OpenDKIM signs a relay host's mail, and OpenDMARC reads the results for mail of external hosts."""
    assert set(results["first"]["a relay host's mail"]["marks"]) >= SIGNED
    assert "dmarc=none" in results["first"]["mail to an open domain"]["marks"]


def test_the_sidecar_last(results: dict[str, Results]) -> None:
    """A report that quotes spam is rejected by rspamd, and has no record then."""
    last = results["last"]
    assert (last["a bounce report"]["reply"], last["a bounce report"]["records"]) == (OK, ["Reception", "OOB"])
    for name in ("a bounce report that quotes spam, dropped", "a bounce report that quotes spam, relayed"):
        assert (last[name]["reply"], last[name]["records"]) == (SPAM, [])
