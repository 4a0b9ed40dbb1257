"""What JSON costs to escape, whatever is in it."""

import json
import time

import pytest

from sidecar.core.text import counted, did_you_mean, in_time, in_units, printable_json

MEGABYTE = 1 << 20
# One character that is escaped, alone or among others; and as many different ones as there are.
TEXTS = {
    "one": "\x7f",
    "alternating": "a\x80",
    "every 16 kB": "a" * 16_000 + "\x7f",
    "beyond 16 bits": "\U000e0001",
    "among many": "\u200b" + "".join(map(chr, range(0x4E00, 0x9E00))),
    "private": "".join(map(chr, range(0xF0000, 0xFFFF0))),
}


def measured(call: object) -> float:
    """Return the seconds of CPU time of a call."""
    assert callable(call)
    start = time.process_time()
    call()
    return time.process_time() - start


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_cost(text: str) -> None:
    """Escaping costs at most 40 times what Python's encoder, in C, needs for the text."""
    text *= MEGABYTE // len(text.encode())
    line = json.dumps(text, ensure_ascii=False).encode()
    calibration = min(measured(lambda: json.dumps(text)) for _ in range(3))
    assert min(measured(lambda: printable_json(line)) for _ in range(3)) < 40 * calibration
    assert json.loads(printable_json(line)) == text


def test_plain_json_is_not_copied() -> None:
    """Most records are ASCII: they are returned as they are."""
    line = json.dumps({"a": "x" * 1000, "b": [1, None]}, indent="\t").encode() + b"\n"
    assert printable_json(line) is line


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1,023 bytes"),
        (1024, "1.0 KiB"),
        (40_755, "39.7 KiB"),
        (1024**2 - 1, "1,023.9 KiB"),
        (1024**3 - 1, "1,023.9 MiB"),
        (1024**3, "1.0 GiB"),
        (5 * 1024**4, "5.0 TiB"),
        (2048 * 1024**4, "2,048.0 TiB"),
    ],
)
def test_sizes(number: int, text: str) -> None:
    """One decimal, rounded down: space that is too small never looks large enough."""
    assert in_units(number) == text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, "worker"), "0 workers"),
        ((1, "worker"), "1 worker"),
        ((2000, "worker"), "2,000 workers"),
        ((1, "line is", "lines are"), "1 line is"),
        ((2, "line is", "lines are"), "2 lines are"),
    ],
)
def test_counted(arguments: tuple[int, str], text: str) -> None:
    """Large numbers have separators, and a plural can be irregular."""
    assert counted(*arguments) == text


@pytest.mark.parametrize(
    ("word", "hint"),
    [("rejektion", "Did you mean 'Rejection'?"), ("OOB ", "Did you mean 'OOB'?"), ("xyz", "There are 3 types.")],
)
def test_did_you_mean(word: str, hint: str) -> None:
    """The nearest word counts in any case."""
    assert did_you_mean(word, ["Reception", "Rejection", "OOB"], "There are 3 types.") == hint


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (7199, "119 minutes"),
        (61_436, "17 hours"),
        (172_799, "47 hours"),
        (900_000, "10 days"),
    ],
)
def test_times(seconds: int, text: str) -> None:
    assert in_time(seconds) == text
