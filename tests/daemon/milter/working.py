"""A worker in the process of a test: the engine "direct", real sessions and a real journal."""

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sidecar.core.policy import compile_policy
from sidecar.core.session import Quota, Rules, Session, World
from sidecar.core.settings.settings import Settings
from sidecar.daemon.milter import Adapter
from sidecar.daemon.milter.conversation import Steps
from sidecar.daemon.milter.loop import Loop
from sidecar.daemon.milter.packets import TRANSLATIONS
from sidecar.journal.write import Quarantine, Recorder, Routes
from tests.core.session.driving import NODE
from tests.wire.client import Mta


class Worker:
    """The parts of a worker, served from a socket of its own. `fsyncs` counts those that have begun; `gate` holds them."""

    def __init__(self, folder: Path, its: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.gate = threading.Event()
        self.gate.set()
        self.fsyncs = threading.Semaphore(0)
        self.recorder = Recorder(
            journal=Routes(its.journal),
            quarantine=Quarantine(folder / "quarantine", size=1 << 30, age=3600),
            limits=its.limits,
        )
        rules, quota = Rules(policy=compile_policy(its), settings=its), Quota(its.limits)
        ids = iter(f"00000000-0000-4000-8000-{number:012x}" for number in range(1000))
        world = World(clock=clock, new_id=lambda: next(ids), node_id=NODE)
        adapter = Adapter(
            translations=TRANSLATIONS,
            new_session=lambda: Session(rules=lambda: rules, world=world, quota=quota),
            recorder=self.recorder,
            answers_connect=False,
            answers_data=True,
            waits=True,
        )
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(folder / "s"))
        self.listening.listen(64)
        self.loop = Loop(self.listening.fileno(), Steps(adapter.callbacks, adapter.negotiate), lambda: None)
        self.loop.start()

    def fsync(self, _descriptor: int) -> None:
        """Stand in for os.fsync."""
        self.fsyncs.release()
        assert self.gate.wait(20)

    def mta(self, peer: str = "203.0.113.9") -> Mta:
        """Connect, and begin an SMTP connection."""
        mta = Mta(str(self.folder / "s"))
        mta.begin(peer=peer)
        return mta

    def close(self) -> None:
        """End what serves it."""
        self.gate.set()
        self.loop.leave()
        self.recorder.close()
        self.listening.close()
