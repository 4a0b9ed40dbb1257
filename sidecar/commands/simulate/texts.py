"""What came of a simulation, in words for people and as objects for machines.

Owns the sentences, and the shape of `simulate --json`, which scripts read: it is for ever. Never prints, and never judges.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from sidecar.commands.simulate.shapes import MessageShape
from sidecar.commands.simulate.simulation import Result, Simulation
from sidecar.core.names import split_endpoint
from sidecar.core.records import Logged

_UNCLASSIFIED = {"", "Uncategorized"}


def opening(simulation: Simulation, first: Result) -> Iterator[str]:
    """Say who sent to whom, as whom the MTA took the sender, and what to do about that."""
    peer, listener = first.dialogue.peer, first.dialogue.listener
    sent = f"{simulation.target} for {', '.join(simulation.recipients)}. What was sent is marked {simulation.token}."
    if simulation.oracle is None or first.expected is None:
        yield f"As {_address(peer)} to {sent}"
        if split_endpoint(peer)[0].is_loopback:
            yield "The MTA may take this machine for a relay host, and anything from it: with --config this tells."
        return
    seen = first.expected
    reason = simulation.oracle.relay_host(seen.peer, seen.listener)
    yield f"As {_address(peer)}, a {'stranger' if reason is None else 'relay host'}, to {sent}"
    if (_address(seen.peer), seen.listener) != (_address(peer), listener):
        yield f"The sidecar saw {_address(seen.peer)} on listener {seen.listener}: what is expected is worked out for these."
    if reason is not None:
        way = simulation.oracle.way_to_be_a_stranger(seen.peer, seen.listener)
        yield f"{reason}. What a relay host brings is relayed, whatever it is; to see what a stranger gets, {way}."


def reasons(result: Result) -> Iterable[str]:
    """Give the records' reasons, each once."""
    return dict.fromkeys(str(record.meta["why"]) for record in result.records or () if "why" in record.meta)


def notes(result: Result) -> Iterable[str]:
    """Give what else there is to know of a result."""
    return () if result.judged is None or result.judged.note is None else (result.judged.note,)


def records(result: Result) -> str:
    """Name the records with their bounce classes: `Reception, 2 OOB InvalidRecipient`."""
    counts = Counter(map(_named, result.records or ()))
    return ", ".join(f"{count} {name}" if count > 1 else name for name, count in counts.items())


def totals(results: Sequence[Result]) -> str:
    """Say in one line how many were sent, what was answered, what was recorded, and whether that is as it must be."""
    answers = Counter(result.dialogue.last.kind for result in results if result.dialogue.last is not None)
    told = [f"{answers[kind]} {word}" for kind, word in ((2, "accepted"), (5, "rejected"), (4, "tempfailed")) if answers[kind]]
    types = Counter(record.type for result in results for record in result.records or ())
    written = f"; records: {', '.join(f'{count} {name}' for name, count in types.items())}" if types else ""
    wrong = sum(not result.is_fine for result in results)
    verdict = f"{wrong} not as expected" if wrong else "all as expected"
    if all(result.judged is None for result in results):
        verdict = "--config tells what was to be expected"
    count = answers.total()
    if not count:
        return "No message could be sent."
    return f"{count} message{'' if count == 1 else 's'}: {', '.join(told)}{written}; {verdict}."


def as_object(simulation: Simulation, result: Result) -> Mapping[str, object]:
    """Give a result as JSON has it; null is what is not known."""
    dialogue, judged = result.dialogue, result.judged
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
        "agrees": None if judged is None else judged.agrees,
        "note": None if judged is None else judged.note,
    }


def shape_as_object(shape: MessageShape) -> Mapping[str, object]:
    """Give a shape as JSON has it."""
    return {"shape": shape.name, "kind": shape.kind, "summary": shape.summary}


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


def _named(record: Logged) -> str:
    known = record.bounce_classification not in _UNCLASSIFIED
    return f"{record.type} {record.bounce_classification}" if known else record.type


def _address(peer: str) -> str:
    """Leave the port out: each message has another."""
    return str(split_endpoint(peer)[0])
