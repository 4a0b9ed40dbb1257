"""The results of a simulation, as sentences and tables for people and as objects for programs.

Owns the shape of `simulate --json`, which scripts read: it is permanent.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from sidecar.commands.simulate.simulation import Result, Simulation, external_options, relay_host_reason
from sidecar.core.names import split_endpoint
from sidecar.core.records import Logged
from sidecar.output.terminal import TextTable, console, plain, print_text

_UNCLASSIFIED = {"", "Uncategorized"}
# A terminal with this many columns has space for the senders in the table.
_WIDE = 100


def as_object(simulation: Simulation, result: Result) -> Mapping[str, object]:
    """Return a result in its JSON form; null for what is not known."""
    dialogue = result.dialogue
    return {
        "shape": result.shape.name,
        "kind": result.shape.kind,
        "token": simulation.token,
        "mta": str(simulation.target),
        "peer": dialogue.peer,
        "listener": dialogue.listener,
        "helo": result.helo,
        "sender": result.sender,
        "recipients": [
            {"address": address, "answer": str(answer)}
            for address, answer in zip(simulation.recipients, dialogue.recipients, strict=False)
        ],
        "answer": None if dialogue.last is None else str(dialogue.last),
        "expected": result.expected,
        "records": None if result.records is None else list(map(_as_object, result.records)),
        "agrees": result.agrees,
        "note": result.note,
    }


def _as_object(record: Logged) -> Mapping[str, object]:
    return {
        "type": record.type,
        "id": record.id,
        "sender": record.sender,
        "recipient": record.recipient,
        "code": record.response.code,
        "bounce_classification": record.bounce_classification,
        "queue_id": record.meta.get("queue_id"),
        "why": record.meta.get("why"),
        "disposition": record.meta.get("disposition"),
    }


def print_results(simulation: Simulation, results: Sequence[Result]) -> None:
    """Print who sent, a table with a row for each shape, the reasons, the notes, and the totals."""
    out = console()
    for line in _opening(simulation, results[0]):
        print_text(out, line, indent=0)
    out.print()
    out.print(_table(simulation, results, wide=out.width >= _WIDE, whole=not out.is_terminal))
    if out.is_terminal:
        _print_groups(out, "Answers:", results, _negative_answers)
    _print_groups(out, "Why:", results, _reasons)
    _print_groups(out, "Notes:", results, lambda result: filter(None, [result.note]))
    out.print()
    print_text(out, _totals(results), style="" if all(result.is_fine for result in results) else "bold red", indent=0)


def _opening(simulation: Simulation, first: Result) -> Iterator[str]:
    """Return the peer that the MTA saw, and how to be another one."""
    peer, listener = first.dialogue.peer, first.dialogue.listener
    sent = f"{simulation.target} for {', '.join(simulation.recipients)}. The messages are marked {simulation.token}."
    seen, evaluator = first.expected, simulation.evaluator
    if evaluator is None or seen is None:
        yield f"As {_address(peer)} to {sent}"
        if split_endpoint(peer)[0].is_loopback:
            yield "This machine may be a relay host, from which the MTA accepts everything: --config shows whether it is."
        return
    reason = relay_host_reason(evaluator, seen.peer, seen.listener)
    yield f"As {_address(peer)}, {'an external host' if reason is None else 'a relay host'}, to {sent}"
    if (_address(seen.peer), seen.listener) != (_address(peer), listener):
        yield f"The sidecar saw {_address(seen.peer)} on listener {seen.listener}: the expected results are for these."
    if reason is not None:
        options = external_options(evaluator, seen.peer, seen.listener)
        yield f"{reason}. All mail of a relay host is relayed; to see the results of an external host, {options}."


def _table(simulation: Simulation, results: Sequence[Result], *, wide: bool, whole: bool) -> TextTable:
    """Return the table. If it is not `wide`, it has no senders; if it is not `whole`, it has only the codes of each answer."""
    cells: dict[str, Callable[[Result], Text]] = {
        "": _mark,
        "shape": lambda result: plain(result.shape.name),
        "kind": lambda result: plain(result.shape.kind),
        "sent as": lambda result: plain(f"<{result.sender}>"),
        "answer": lambda result: plain(" ".join(str(result.dialogue.last or "").split(" ")[: None if whole else 2])),
        "expected": lambda result: plain(result.expected.disposition.words if result.expected else ""),
        "records": lambda result: plain(_records(result)),
    }
    hidden = {"sent as": not wide, "expected": simulation.evaluator is None, "records": simulation.journal is None}
    cells = {name: cell for name, cell in cells.items() if not hidden.get(name)}
    listing = TextTable(*cells)
    for result in results:
        listing.add_row(*(cell(result) for cell in cells.values()))
    return listing


def _mark(result: Result) -> Text:
    if not result.was_sent:
        return Text("not sent", style="yellow")
    if result.agrees is None:
        return Text("sent")
    return Text("ok", style="green") if result.agrees else Text("differs", style="bold red")


def _records(result: Result) -> str:
    """Return the records with their bounce classes: `Reception, 2 OOB InvalidRecipient`."""
    names = (
        record.type if record.bounce_classification in _UNCLASSIFIED else f"{record.type} {record.bounce_classification}"
        for record in result.records or ()
    )
    return ", ".join(f"{count} {name}" if count > 1 else name for name, count in Counter(names).items())


def _negative_answers(result: Result) -> Iterable[str]:
    """Return the rejections that are not as expected, or that nothing is expected of."""
    answers = () if result.agrees else (*result.dialogue.recipients, result.dialogue.last)
    return dict.fromkeys(str(answer) for answer in answers if answer is not None and answer.kind in {4, 5})


def _reasons(result: Result) -> Iterable[str]:
    return dict.fromkeys(str(record.meta["why"]) for record in result.records or () if "why" in record.meta)


def _print_groups(out: Console, title: str, results: Sequence[Result], texts: Callable[[Result], Iterable[str]]) -> None:
    """Print each sentence once, with the shapes that it is about."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for result in results:
        for text in texts(result):
            groups[text].append(result.shape.name)
    if groups:
        out.print()
        out.print(Text(title, style="bold"))
    for text, names in groups.items():
        shapes = "all" if len(names) == len(results) > 1 else ", ".join(names)
        print_text(out, f"  {shapes}: {text}")


def _totals(results: Sequence[Result]) -> str:
    answers = Counter(result.dialogue.last.kind for result in results if result.dialogue.last is not None)
    if not (count := answers.total()):
        return "No message could be sent."
    words = ((2, "accepted"), (5, "rejected"), (4, "tempfailed"))
    counted = ", ".join(f"{answers[kind]} {word}" for kind, word in words if answers[kind])
    types = Counter(record.type for result in results for record in result.records or ())
    written = f"; records: {', '.join(f'{count} {name}' for name, count in types.items())}" if types else ""
    wrong = sum(not result.is_fine for result in results)
    verdict = f"{wrong} not as expected" if wrong else "all as expected"
    if all(result.agrees is None for result in results):
        verdict = "--config shows what is expected"
    return f"{count} message{'' if count == 1 else 's'}: {counted}{written}; {verdict}."


def _address(peer: str) -> str:
    # Without the port: each message has another.
    return str(split_endpoint(peer)[0])
