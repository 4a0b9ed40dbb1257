"""A stand-in for a KumoMTA node: Lua 5.4 with the real sidecar.lua, driven from a test.

Owns the Lua process. Never answers anything itself.
"""

import json
import subprocess
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE
from types import TracebackType
from typing import Any, Self

from msgspec import Struct, convert

HERE = Path(__file__).parent
DEPLOYED = HERE.parents[1] / "deploy" / "kumomta"
_COMMAND = ["lua5.4", str(HERE / "lua" / "driver.lua"), str(HERE / "lua"), str(DEPLOYED)]

LISTENER = "10.1.1.1:25"
PEER = "203.0.113.9:4444"
TRY_AGAIN = {"code": 451, "text": "4.4.3 the listener policy cannot be asked at present, try again later"}


class Answer(Struct, frozen=True, kw_only=True):
    """What came of an action: a result, KumoMTA's reply by kumo.reject, or an error. `files` lists what was asked of files."""

    result: Any = None
    reject: dict[str, Any] | None = None
    error: str | None = None
    logged: list[str] | dict[str, Any] = []
    files: list[str] | dict[str, Any] = []


class Node:
    """A node with one policy script, as a context manager."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._running = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            process = starting.enter_context(subprocess.Popen(_COMMAND, stdin=PIPE, stdout=PIPE, text=True))
            assert process.stdin
            assert process.stdout
            self._in, self._out = process.stdin, process.stdout
            if self._options:
                assert self.do("setup", options=self._options).error is None
            self._running = starting.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._running.close()

    def do(self, action: str, **more: Any) -> Answer:
        """Have something done."""
        self._in.write(json.dumps({"action": action, **more}) + "\n")
        self._in.flush()
        return convert(json.loads(self._out.readline()), Answer)

    def ask(self, domain: str, *, listener: str = LISTENER, peer: str | None = PEER, authz_id: str | None = None) -> Answer:
        """Fire get_listener_domain."""
        meta = {"received_from": peer, "authz_id": authz_id}
        told = {name: value for name, value in meta.items() if value is not None}
        return self.do("ask", domain=domain, listener=listener, meta=told)
