"""A short run of every target: the fuzzer works, and finds nothing at hand."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import ROOT
from tests.forked import Forks
from tests.fuzz import climbing
from tests.fuzz.runs import climb, fuzzers, run, search
from tests.fuzz.targets import BROKEN, TARGETS

needs_atheris = pytest.mark.skipif(
    find_spec("atheris") is None, reason="there is no wheel of atheris for this Python or this machine"
)


@pytest.fixture(scope="module")
def loaded() -> Iterator[Forks]:
    """All targets loaded once."""
    with fuzzers() as one:
        yield one


@needs_atheris
@pytest.mark.parametrize("target", TARGETS)
def test_a_target_finds_nothing(target: str, loaded: Forks, tmp_path: Path) -> None:
    """The first inputs of a fixed order, made of some of the seeds, are answered as they must be."""
    # An input of `stalls` is a quarter of a megabyte.
    inputs = 40 if target == "stalls" else 80
    ended = run(loaded, target, tmp_path, seconds=300, inputs=inputs, seeds=inputs // 3, seed=1)
    assert ended.fault is None, ended.fault
    assert ended.inputs >= inputs
    assert ended.coverage > 0


@needs_atheris
def test_a_fault_is_found(loaded: Forks, tmp_path: Path) -> None:
    """An input that a check fails on is reported, and kept in a file."""
    ended = run(loaded, BROKEN, tmp_path, seconds=20, inputs=100_000, seed=1)
    assert ended.fault is not None
    assert "an external host wrote the forbidden word" in ended.fault
    (kept,) = tmp_path.glob(f"{BROKEN}-crash-*")
    assert b"!" in kept.read_bytes()


def test_the_search_by_cost_climbs(tmp_path: Path) -> None:
    """A few steps of it find shapes that cost more than those they were made of, and none that costs too much."""
    found = climb(tmp_path, seconds=600, inputs=18, seed=1)
    assert found.fault is None, found.fault
    assert found.inputs > 15
    assert found.worst > 0


def test_the_search_finds_what_costs_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a limit that everything exceeds the first shape is a fault, with its message in a file."""
    for size in ("_SIZE", "_FULL_SIZE"):
        monkeypatch.setattr(climbing, size, 8192)
    monkeypatch.setattr("tests.cost.lasting._TRIES", 2)
    monkeypatch.setattr("tests.cost.judging._CPU", 1e-6)
    monkeypatch.setattr("tests.cost.judging._MESSAGE", 1e-6)
    monkeypatch.setattr("tests.cost.judging._RECIPIENT", 1e-6)
    found = climbing.search(tmp_path, seconds=600, inputs=100, seed=1)
    assert found.fault is not None
    (kept,) = tmp_path.glob("cost-*.eml")
    assert kept.stat().st_size > 0


COUNTING = """\
from hypothesis import given, strategies

SEEN = []

@given(strategies.integers())
def test_property(number):
    SEEN.append(number)
    assert len(SEEN) <= 300

def test_other():
    raise AssertionError("this is no property test")
"""


@pytest.mark.parametrize(("factor", "passed"), [(1, 1), (10, 0)])
def test_property_tests_have_more_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: int, passed: int) -> None:
    """An assertion that fails at the 301st example fails only where there are so many."""
    (tmp_path / "test_counting.py").write_text(COUNTING)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    plugins = ("xdist", "_hypothesis_pytestplugin", "tests.conftest")
    options = ["-n", "0", *(f"-p{plugin}" for plugin in plugins), "-c", f"{ROOT}/pyproject.toml"]
    found = search(tmp_path, *options, seconds=600, seed=1, factor=factor)
    assert found.passed == passed
    assert (found.fault is None) == bool(passed)
    assert found.fault is None or "test_property" in found.fault
