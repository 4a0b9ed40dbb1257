"""Listener domains files as most are, read table by table instead of key by key: a million domains in seconds.

Owns the conditions under which that gives what `domains` would give. Never reports a problem: whatever is unusual, right or
wrong, it declines, and the exact reader takes the whole file.

Why it is right: the text is cut where tables begin, and tables of the same text are read once, by the real parser. A TOML text
that is cut before headers, into parts that are each TOML, means what the parts mean: between two statements a parser knows but
the table it is in. And what is left of a JSON text when its innermost objects are taken out is parsed, too.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, chain, pairwise
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeVar

import tomli
from msgspec.structs import replace

from sidecar.config.domains import LISTENER, READERS, REPORT_KEYS, UNUSED
from sidecar.config.places import json_places, toml_places
from sidecar.config.readers import WrongValue, unused_duration
from sidecar.config.warnings.findings import Findings
from sidecar.config.warnings.written import unused_ttl
from sidecar.core.names import DOMAIN_LIMIT, are_plain, normal_domain, normal_listener
from sidecar.core.settings.domain_table import Odd, Shape
from sidecar.core.settings.draft import Draft
from sidecar.core.settings.values import ANY_LISTENER, Where
from sidecar.core.text import quoted

# Both are linear: nothing that is read is gone back over. Names with escapes are left to the exact reader. What stands behind a
# header stays with the table's text, where the parser sees whether it is a comment.
_HEADER: Final = re.compile(r'^\[(?:listener\."([^"\\\n]++)"\.)?"([^"\\\n]++)"\](?=[ \t]*+(?:\#|\r?$))', re.MULTILINE)
_OBJECT: Final = re.compile(r'"([^"\\\n]++)"[ \t]*+:[ \t]*+(\{[^{}]*+\})')
_BLANK: Final = " \t\r\n"


T = TypeVar("T")


class _UnusualError(Exception):
    """Something that the exact reader must look at."""


class _Table(NamedTuple):
    """What the text of a table says. `steps` are its keys' lines, counted from the table's own; `unused` is that of a ttl."""

    fields: Mapping[str, Any]
    steps: Mapping[str, int]
    trues: tuple[str, ...]
    unused: int | None


class _Group(NamedTuple):
    """The tables of one listener (None: of every listener), each with its name as written, the number of its text, its line."""

    listener: str | None
    names: Sequence[str]
    texts: Sequence[int]
    lines: Sequence[int]


class _Cut(NamedTuple):
    """A file cut into tables: for each the listener, the name, the text, and what stands behind it; and what is before all."""

    head: str
    listeners: Sequence[str | None]
    names: Sequence[str]
    texts: Sequence[str]
    gaps: Sequence[str]


def quick_draft(text: str, file: str, findings: Findings, *, is_json: bool) -> Draft | None:
    """Read a listener domains file if it is a usual one without a fault. Warnings go to `findings`."""
    try:
        cut = _cut_json(text) if is_json else _cut_toml(text)
        numbers = {text: number for number, text in enumerate(dict.fromkeys(cut.texts))}
        tables = [_table(each, is_json=is_json) for each in numbers]
        return _filled(file, list(_groups(cut, numbers)), tables, findings)
    except _UnusualError:
        return None


def _cut_toml(text: str) -> _Cut:
    head, *parts = _HEADER.split(text)
    names = parts[1::3]
    if not names or LISTENER in names or _parsed(head, is_json=False):
        raise _UnusualError
    return _Cut(head=head, listeners=parts[::3], names=names, texts=parts[2::3], gaps=[""] * len(names))


def _cut_json(text: str) -> _Cut:
    if "\\" in text:  # then a quote may be something else than the end of a string
        raise _UnusualError
    head, *parts = _OBJECT.split(text)
    names, gaps = parts[::3], parts[2::3]
    if not names or LISTENER in names:
        raise _UnusualError
    return _Cut(head=head, listeners=_listeners(head, gaps), names=names, texts=parts[1::3], gaps=gaps)


def _listeners(head: str, gaps: Sequence[str]) -> list[str | None]:
    """Give the listener of each table of a JSON text, by what stands around the tables.

    Tables with nothing but a comma between them make a run. What is left of the text is parsed, with a number for each run.
    """
    is_comma = {gap: gap.strip(_BLANK) == "," for gap in set(gaps)}
    starts = [0, *(index for index, gap in enumerate(gaps[:-1], start=1) if not is_comma[gap])]
    bounds = [*starts, len(gaps)]
    left = head + "".join(f'"{start}": {start}{gaps[end - 1]}' for start, end in pairwise(bounds))
    runs = sorted(_runs(_parsed(left, is_json=True)), key=itemgetter(0))
    if [start for start, _ in runs] != starts:
        raise _UnusualError
    lengths = (end - start for start, end in pairwise(bounds))
    return list(chain.from_iterable([listener] * length for (_, listener), length in zip(runs, lengths, strict=True)))


def _runs(left: object) -> Iterator[tuple[int, str | None]]:
    """Give the runs of tables, and the listener that each is for."""
    if not isinstance(left, dict):
        raise _UnusualError
    for key, value in left.items():
        if key == LISTENER and isinstance(value, dict):
            yield from ((run, listener) for listener, inner in value.items() for run in _numbers(inner))
        else:
            yield from ((run, None) for run in _numbers({key: value}))


def _numbers(left: object) -> list[int]:
    # A text's own strings can stand here too, and `"1": "1"` is no run.
    if not isinstance(left, dict) or any(type(value) is not int or key != str(value) for key, value in left.items()):
        raise _UnusualError
    return list(left.values())


def _parsed(text: str, *, is_json: bool) -> Any:  # noqa: ANN401 - whatever the text holds
    try:
        return json.loads(text, object_pairs_hook=_once) if is_json else tomli.loads(text)
    except (ValueError, RecursionError):
        raise _UnusualError from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object whose keys all stand once."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _UnusualError
    return made


def _table(text: str, *, is_json: bool) -> _Table:
    """Read the text of a table, if it has no fault."""
    values = _parsed(text, is_json=is_json)
    place = json_places(text)[0] if is_json else toml_places(text)
    try:
        fields = {key: READERS[key](value) for key, value in values.items() if key != UNUSED}
        unused_duration(values.get(UNUSED, 0))
    except (KeyError, WrongValue):
        raise _UnusualError from None
    steps = {key: place.at(key).line - 1 for key in fields}
    trues = tuple(key for key in REPORT_KEYS if values.get(key) is True)
    return _Table(fields, {"": 0, **steps}, trues, place.at(UNUSED).line - 1 if UNUSED in values else None)


def _groups(cut: _Cut, numbers: Mapping[str, int]) -> Iterator[_Group]:
    """Part the tables by listener; those of every listener come last, as in `domains`."""
    newlines = {part: part.count("\n") for part in {*numbers, *cut.gaps}}
    passed = (newlines[text] + newlines[gap] for text, gap in zip(cut.texts, cut.gaps, strict=True))
    lines = list(accumulate(passed, initial=1 + cut.head.count("\n")))
    texts = list(map(numbers.__getitem__, cut.texts))
    listeners = dict.fromkeys(cut.listeners)
    if listeners.keys() == {None}:
        yield _Group(None, cut.names, texts, lines[:-1])
        return
    grouped: dict[str | None, list[int]] = {listener: [] for listener in listeners}
    for index, listener in enumerate(cut.listeners):
        grouped[listener].append(index)
    for listener, indices in sorted(grouped.items(), key=lambda pair: pair[0] is None):
        yield _Group(listener, _at(indices, cut.names), _at(indices, texts), _at(indices, lines))


def _at(indices: Sequence[int], column: Sequence[T]) -> list[T]:
    return [column[index] for index in indices]


def _filled(file: str, groups: Sequence[_Group], tables: Sequence[_Table], findings: Findings) -> Draft:
    draft = Draft()
    for group in groups:
        listener = ANY_LISTENER if group.listener is None else _listener(group.listener)
        if listener in draft.places:
            raise _UnusualError
        _fill(draft, listener, file, group, tables)
    # Only now, when nothing can be unusual any more.
    for group in groups:
        _note_unused(file, group, tables, findings)
    return draft


def _listener(spelled: str) -> str:
    try:
        return normal_listener(spelled)
    except ValueError:
        raise _UnusualError from None


def _fill(draft: Draft, listener: str, file: str, group: _Group, tables: Sequence[_Table]) -> None:
    domains = group.names if are_plain(group.names) else list(map(normal_domain, group.names))
    known = [domain for domain in domains if domain is not None]
    if len(set(known)) != len(domains):
        raise _UnusualError
    shapes = {number: _shape(tables[number], listener, _prefix(group), file) for number in set(group.texts)}
    numbers = {number: draft.number(shape) for number, shape in shapes.items()}
    texts = list(map(numbers.__getitem__, group.texts))
    odds: dict[int, Odd] = {}
    if known != group.names:
        for index, (domain, name) in enumerate(zip(known, group.names, strict=True)):
            if domain != name:
                number, line = group.texts[index], group.lines[index]
                places = {key: (file, line + step) for key, step in tables[number].steps.items()}
                odds[index] = Odd(path=f"{_prefix(group)}{quoted(name, DOMAIN_LIMIT)}", lines=places)
                texts[index] = draft.number(replace(shapes[number], odd=True))
    draft.fill(listener, known, texts, group.lines, odds)


def _prefix(group: _Group) -> str:
    return "" if group.listener is None else f"{LISTENER}.{quoted(group.listener, DOMAIN_LIMIT)}."


def _shape(table: _Table, listener: str, prefix: str, file: str) -> Shape:
    fields = dict(table.fields)
    if "relay_from" in fields:
        fields["relay_from"] = tuple(network.text for network in fields["relay_from"])
    return Shape(listener=listener, prefix=prefix, file=file, steps=dict(table.steps), trues=table.trues, **fields)


def _note_unused(file: str, group: _Group, tables: Sequence[_Table], findings: Findings) -> None:
    steps = {number: table.unused for number, table in enumerate(tables) if table.unused is not None}
    if not steps:
        return
    for name, number, line in zip(group.names, group.texts, group.lines, strict=True):
        if number in steps:
            key = f"{_prefix(group)}{quoted(name, DOMAIN_LIMIT)}.{UNUSED}"
            findings.note(unused_ttl, Where(file=file, line=line + steps[number], key=key))
