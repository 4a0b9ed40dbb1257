"""A worker in this process: which orders it obeys, what it does with a plan, and how it ends."""

import os
from collections.abc import Iterator
from pathlib import Path
from socket import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from sidecar.config import Loaded
from sidecar.core.policy import compile_policy
from sidecar.core.session import NewestRules, NoRulesError, Rules
from sidecar.core.settings.values import LimitSettings
from sidecar.daemon.milter import Listener, Serving
from sidecar.daemon.process import worker
from sidecar.daemon.process.child import control_pair, receive_word, send, send_plan
from sidecar.daemon.process.plan import Handover, Plan
from sidecar.journal import JournalError
from tests.building import settings


class Engine:
    """An engine and a listener, which note what is asked of them. It has as many open connections as `open` says."""

    def __init__(self) -> None:
        self.open = [0]
        self.order: list[str] = []

    def leave(self) -> None:
        """Stop accepting."""
        self.order.append("leave")

    def withdraw(self) -> None:
        """Remove the path."""
        self.order.append("withdraw")

    def open_connections(self) -> int:
        """Count."""
        self.order.append("count")
        return self.open.pop(0) if len(self.open) > 1 else self.open[0]

    def prove_alive(self, say: Any) -> None:
        """Be alive."""
        say()


@pytest.fixture
def pair() -> Iterator[tuple[socket, socket]]:
    ours, theirs = control_pair()
    with ours, theirs:
        yield ours, theirs


def wait(engine: Engine, control: socket, applied: list[Handover]) -> None:
    spare = [os.dup(control.fileno())]
    worker._wait_for_end(control, cast("Listener", engine), cast("Serving", engine), spare, applied.append)
    # A plan that was received then may have the same number.
    assert applied or not Path(f"/proc/self/fd/{spare[0]}").exists()


def test_orders_are_obeyed_one_by_one(pair: tuple[socket, socket]) -> None:
    """It ends when no connection has been open at two looks, and the path of its socket stays for others."""
    ours, theirs = pair
    engine, applied = Engine(), list[Handover]()
    engine.open = [1, 0, 1, 0, 0]
    send(ours, "ping")
    send(ours, 600.0)
    send_plan(ours, Handover([ours.fileno(), ours.fileno()]))
    send(ours, "ping")
    wait(engine, theirs, applied)
    assert [receive_word(ours) for _ in range(4)] == ["alive", "left", "applied", "alive"]
    assert (engine.order[0], engine.order.count("count"), "withdraw" in engine.order) == ("leave", 5, False)
    applied[0].close()


def test_a_later_order_shortens_the_grace(pair: tuple[socket, socket]) -> None:
    ours, theirs = pair
    engine = Engine()
    engine.open = [1]
    send(ours, 600.0)
    send(ours, 0.0)
    wait(engine, theirs, [])
    assert "withdraw" not in engine.order


@pytest.mark.parametrize("retiring", [False, True])
def test_without_its_supervisor_it_ends_soon(
    pair: tuple[socket, socket], monkeypatch: pytest.MonkeyPatch, retiring: bool
) -> None:
    """It removes the socket's path, unless it has left the socket before: then it may be another sidecar's."""
    ours, theirs = pair
    monkeypatch.setattr(worker, "ORPHAN_GRACE", 0.2)
    engine = Engine()
    engine.open = [1]
    if retiring:
        send(ours, 600.0)
    ours.close()
    wait(engine, theirs, [])
    assert ("withdraw" in engine.order) != retiring
    assert engine.order.count("leave") == 1


def plan(folder: Path) -> Plan:
    made = replace(settings(), state_directory=folder)
    return Plan(settings=made, policy=compile_policy(made), node_id="", revision="", made=0.0)


@pytest.mark.parametrize("loaded", [Loaded(settings=None, problems=(), sources=()), MemoryError()])
def test_a_plan_that_cannot_be_applied_leaves_no_rules(tmp_path: Path, loaded: Loaded | Exception) -> None:
    """Messages are tempfailed rather than judged by rules from before. The memory of the plan is closed in any case."""
    closed: list[bool] = []

    def read() -> Loaded:
        if isinstance(loaded, Exception):
            raise loaded
        return loaded

    made = plan(tmp_path)
    rules = NewestRules(Rules(policy=made.policy, settings=made.settings))
    handover = SimpleNamespace(read=read, close=lambda: closed.append(True))
    worker._apply(rules, LimitSettings(), cast("Handover", handover))
    with pytest.raises(NoRulesError):
        rules()
    assert closed == [True]


@pytest.mark.parametrize("error", [JournalError("the journal cannot be opened"), MemoryError()])
def test_a_worker_that_fails_says_why_and_has_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair: tuple[socket, socket], error: Exception
) -> None:
    """Its supervisor hears no word of it, and starts another one."""
    lines: list[str] = []

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(worker, "ignore_signals", lambda: None)
    monkeypatch.setattr("sidecar.log.configure", lambda **_: None)
    monkeypatch.setattr(worker, "_begin", fail)
    monkeypatch.setattr(worker._LOG, "error", lambda line, **_: lines.append(line))
    assert worker.work(cast("Listener", None), pair[1], plan(tmp_path), None) == 1
    assert lines == [str(error) or "the worker failed"]
