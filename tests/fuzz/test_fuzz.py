"""A short run of every target: the fuzzer works, and finds nothing at hand."""

from pathlib import Path

import pytest

from tests.fuzz.runs import TARGETS, run

pytest.importorskip("atheris", reason="there is no wheel of atheris for this Python or this machine")


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_finds_nothing(target: str, tmp_path: Path) -> None:
    """The first inputs of a fixed order, from the seeds on, are answered as they must be, and reach code beyond the seeds'."""
    ended = run(target, tmp_path, seconds=2, inputs=1000, seed=1)
    assert ended.fault is None, ended.fault
    assert ended.inputs > 0
    assert ended.coverage > 0


def test_a_fault_is_found(tmp_path: Path) -> None:
    """An input that a check fails on is reported, and kept in a file."""
    ended = run("broken", tmp_path, seconds=20, inputs=100_000, seed=1)
    assert ended.fault is not None
    assert "a stranger wrote the forbidden word" in ended.fault
    (kept,) = tmp_path.glob("broken-crash-*")
    assert b"!" in kept.read_bytes()
