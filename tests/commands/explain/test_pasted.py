"""Records as people paste them."""

import json

import pytest
from hypothesis import given
from hypothesis import settings as tries
from hypothesis import strategies as st

from sidecar.commands.explain.entries import is_pasted, pasted

RECORD = '{"type": "Reception", "id": "1"}'
PRETTY = json.dumps(json.loads(RECORD), indent=2)
FRAGMENT = '"type": "Reception",\n "id": "1",\n'


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (PRETTY, [1]),
        (f"\n\n{PRETTY}\n", [3]),
        (f"\ufeff{PRETTY}", [1]),
        (PRETTY.replace("\n", "\r\n"), [1]),
        (f"{PRETTY}\n{PRETTY}\n", [1, 5]),
        (f"{PRETTY},\n{PRETTY},\n", [1, 5]),
        (f"[{RECORD}, {RECORD}]", [1, 1]),
        (json.dumps([json.loads(RECORD)] * 2, indent=1), [1, 1]),
        (FRAGMENT, [1]),
        (f"[\n{RECORD},\n{RECORD}\n]", [1, 1]),
        (f"{PRETTY}\n{RECORD}\n", [1, 5]),
    ],
)
def test_shapes(text: str, lines: list[int]) -> None:
    """One object over several lines, several in a row, an array, and a fragment that lost its braces."""
    assert is_pasted(text.encode())
    found = list(pasted(text.encode()))
    assert [line for line, _ in found] == lines
    assert all(json.loads(record) == {"type": "Reception", "id": "1"} for _, record in found)


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"\n\n",
        RECORD.encode(),
        f"{RECORD}\n{RECORD}\n".encode(),
        b"\x28\xb5\x2f\xfdwhatever\n",
        b"no json\n",
        b'{"type": "Rece',
        # The first line is broken, the others are not.
        f'{{"type": "Rece\n{RECORD}\n'.encode(),
        f'{{"type": "Rece\n\nnor this\n{RECORD}\n{{"ty'.encode(),
        f'{{"type":\n{RECORD}\n'.encode(),
        f'"id": "1"}}\n{RECORD}\n'.encode(),
    ],
)
def test_logs_are_read_by_line(beginning: bytes) -> None:
    """A log has one record on each line, or is packed; the first line shows it, also if only its beginning is read."""
    assert not is_pasted(beginning)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{\n"type": oops}', "line 2 is not JSON"),
        ("{\n", "is not JSON"),
        ('{"type": "Recep\n', r"line 1 is not JSON: Invalid control character$"),
        ('{"type": "Recep', r"line 1 is not JSON: Unterminated string$"),
        ("[" * 100_000, "too deep"),
    ],
)
def test_what_cannot_be_read(text: str, why: str) -> None:
    """A text that is no JSON says where; nothing makes the reader fail otherwise."""
    with pytest.raises(ValueError, match=why):
        list(pasted(text.encode()))


@given(st.binary(max_size=60) | st.text('{}[]",:1a \n', max_size=60).map(str.encode))
@tries(max_examples=300, deadline=None)
def test_hostile_texts(text: bytes) -> None:
    """Whatever bytes come, they are objects or a ValueError."""
    is_pasted(text)
    try:
        found = list(pasted(text))
    except ValueError:
        return
    assert all(json.loads(record) is not ... for _, record in found)
