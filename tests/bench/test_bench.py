"""The benchmark works: every rival gives its outcomes, and the tables follow from the figures. Nothing is timed."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.bench import __main__ as program
from tests.bench import stand
from tests.bench.rivals import BEST_C, DIRECT, NO_MILTER, OWN_CONTROL, PLAIN_C, PYMILTER, Rivals, build
from tests.bench.scenarios import BOUNCE, REJECTED_RCPT, RELAY, ROWS, Scenario
from tests.bench.stand import Burst, Round, measure
from tests.bench.tables import Row, markdown, missed, rate_ratio


@pytest.fixture(scope="module")
def rivals() -> Iterator[Rivals]:
    with Rivals() as one:
        yield one


@pytest.mark.mta
@pytest.mark.parametrize(
    ("scenarios", "names"),
    [(ROWS["all mixed"], (BEST_C, PYMILTER, DIRECT)), ((REJECTED_RCPT,), (NO_MILTER, PLAIN_C, OWN_CONTROL, DIRECT))],
)
def test_rounds(rivals: Rivals, scenarios: Sequence[Scenario], names: Sequence[str]) -> None:
    """In each round each rival gives its outcome for every message, and the milters use CPU time."""
    build()
    rounds = measure(scenarios, names, rivals, connections=5, rounds=2, messages=20)
    assert [tuple(one) for one in rounds] == [names, names]
    assert all(burst.time > 0 for one in rounds for burst in one.values())
    assert all((burst.cpu > 0) == (name not in {NO_MILTER, OWN_CONTROL}) for one in rounds for name, burst in one.items())


@pytest.mark.mta
def test_another_outcome_ends_the_measurement(rivals: Rivals, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rival that does something else would be faster or slower for another reason."""
    monkeypatch.setitem(stand._EXPECTED, "discard", "milter-reject")
    with pytest.raises(RuntimeError, match=r"direct did not give .*milter-reject.*, but .*milter-discard"):
        measure((BOUNCE,), [DIRECT], rivals, connections=2, rounds=1, messages=20)


def test_a_row_that_fails_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The rows that were measured are in the table; the run fails in the end."""

    def measure_row(scenarios: Sequence[Scenario], names: Sequence[str], _: Rivals, **_size: int) -> list[Round]:
        if scenarios == (BOUNCE,):
            raise TimeoutError("not true after 60 s")
        return [dict.fromkeys(names, Burst(0.002, 0.0004))]

    monkeypatch.setattr(program, "measure", measure_row)
    options = ["--rivals", "pymilter", "--connections", "10", "--rounds", "1", "--keep", str(tmp_path / "figures")]
    monkeypatch.setattr("sys.argv", ["bench", *options])
    rows, failed = program._measure(program._arguments())
    assert [row.name for row in rows] == [name for name in ROWS if name != BOUNCE.name]
    assert failed == [f"{BOUNCE.name}, 10 connections: not true after 60 s"]
    assert program._read(tmp_path / "figures") == rows


def _row(name: str, connections: int, rival: str, *ratios: float) -> Row:
    rounds: list[Round] = [{DIRECT: Burst(0.002, 0.0004), rival: Burst(0.002 * ratio, 0.0001)} for ratio in ratios]
    return Row(name, connections, rounds)


def test_ratios_are_of_one_round() -> None:
    """A slow round changes the times of all rivals, not the ratio."""
    rounds = [*_row("", 10, NO_MILTER, 0.8, 0.9, 1.0).rounds, {DIRECT: Burst(0.02, 0.0), NO_MILTER: Burst(0.018, 0.0)}]
    assert str(rate_ratio(rounds, NO_MILTER)) == "0.90 (0.88-0.93)"


@pytest.mark.parametrize(
    ("row", "count"),
    [
        (_row(RELAY.name, 10, NO_MILTER, 0.7, 0.83, 0.9), 0),
        (_row(RELAY.name, 10, NO_MILTER, 0.7, 0.81, 0.9), 1),
        (_row(BOUNCE.name, 40, BEST_C, 0.79), 1),
        (_row(BOUNCE.name, 10, BEST_C, 0.79), 0),  # there is no target for it
    ],
)
def test_targets(row: Row, count: int) -> None:
    """The median decides; the table has the quartiles."""
    assert missed([row]) == count
    table = markdown([row])
    assert table.count("| missed |") == count
    assert f"| {row.name}, {row.connections} connections | 400 | 100 |" in table


def test_no_name_exists() -> None:
    """The name server returns the question, without the additional records of the query, and NXDOMAIN."""
    question = b"\x04send\x07example\x00\x00\x10\x00\x01"
    query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01" + question + b"\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00"
    assert program.no_such_name(query) == b"\x12\x34\x81\x83\x00\x01\x00\x00\x00\x00\x00\x00" + question
