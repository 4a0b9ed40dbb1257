"""The benchmark of the domain table works, also for a small table. Nothing is timed."""

import json
import subprocess
import sys
from pathlib import Path

from tests import ROOT


def test_short(tmp_path: Path) -> None:
    """A short run measures every figure."""
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.bench.table", "--domains", "700", "--lookups", "1000", "--workers", "1"]
    subprocess.run([*command, "--reloads", "1", "--keep", str(figures)], cwd=ROOT, check=True, timeout=600)
    found = json.loads(figures.read_text())
    assert found["domains"] == 700
    assert all(found[ending]["seconds"] > 0 for ending in ("json", "toml"))
    assert all(time > 0 for time in found["lookups"].values())
    assert [(one["workers"], len(one["each"])) for one in found["memory"]] == [(1, 1)]
    assert found["reloads"]["wrong"] == 0
