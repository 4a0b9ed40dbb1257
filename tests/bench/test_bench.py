"""The measuring stand works: it builds, every rival serves every scenario, and the figures come out. Nothing is timed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT


@pytest.mark.mta
def test_short(tmp_path: Path) -> None:
    """A short run of all scenarios together, with every rival, at the protocol and behind Postfix, tells a rate for each."""
    figures = tmp_path / "figures.jsonl"
    command = [sys.executable, "-m", "tests.bench", "--short", "--only", "mixed", "--keep", str(figures)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    told = [json.loads(line) for line in figures.read_text().splitlines()]
    assert [(one["place"], len(one["rounds"][0])) for one in told] == [("protocol", 5), ("Postfix", 6)]
    assert all(rival["rate"] > 0 for one in told for rival in one["rounds"][0].values())


@pytest.mark.mta
def test_against() -> None:
    """A checkout beside itself: both serve each scenario, and their ratios come out."""
    command = [sys.executable, "-m", "tests.bench", "--against", str(ROOT), "--rounds", "2", "--messages", "40"]
    told = subprocess.run([*command, "--only", "mixed"], cwd=ROOT, check=True, timeout=300, stdout=subprocess.PIPE, text=True)
    assert re.search(r"all mixed +[\d,]+ +[\d,]+ +\d\.\d{3} \(.* to .*\) +\d\.\d{3} \(.* to .*\)", told.stdout)
