"""A worker: one process that serves connections with one plan until it is told to retire, or its supervisor is gone.

Owns the life of that process. Never starts another, and never listens to signals: the supervisor speaks over the control
socket, and its death is heard there too, whatever killed it.
"""

import os
import random
import secrets
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from sidecar import log
from sidecar.journal import JournalError, Quarantine
from sidecar.metrics import Meter
from sidecar.milter import ENGINES, Adapter, Listener, Recorder, Serving, open_routes
from sidecar.milter.recorder import Writer
from sidecar.session import Quota, Session, World, session_type
from sidecar.supervisor.control import hear_supervisor, say_alive, say_left, say_ready
from sidecar.supervisor.metered import MeteredJournal, MeteredQuota, MeteredRecorder, metered_session, timed
from sidecar.supervisor.plan import Plan

# After its supervisor died a worker finishes what it has, but not for long: a new supervisor may be starting by now.
ORPHAN_GRACE = 10.0
# How often an ending worker looks whether its connections are over. Nobody waits for it.
_LOOK_SECONDS = 0.05
# A connection may be between accept() and our eyes; twice in a row it cannot be.
_QUIET_LOOKS = 2
# Exit statuses: 0 told to end, 1 could not start, 2 the engine's loop ended by itself.
COULD_NOT_START = 1
LOOP_ENDED = 2

# Of a UUID: version and variant, and what they are in a random one.
_VERSION_BITS, _VERSION = 0xF << 76 | 0x3 << 62, 0x4 << 76 | 0x2 << 62

_LOG = log.get("worker")


def work(control: socket.socket, listener: Listener, plan: Plan, meter: Meter | None) -> NoReturn:
    """Serve, and end the process; with a meter, count. Called in the forked child, whose caller must never run on."""
    status = COULD_NOT_START
    try:
        # Ctrl-C and systemd signal every process of the group; here only the supervisor's word counts.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        recorder, serving = _begin(listener, plan, meter)
        say_ready(control)
        _wait_for_end(control, listener, serving)
        recorder.close()
        status = 0
    except JournalError as error:
        _LOG.error(str(error))
    except BaseException as error:  # noqa: BLE001 - the supervisor's stack lies below: nothing may unwind into it
        _LOG.error("the worker failed", exc_info=error)
    finally:
        sys.stderr.flush()
        os._exit(status)


def _begin(listener: Listener, plan: Plan, meter: Meter | None) -> tuple[Recorder, Serving]:
    settings, limits = plan.settings, plan.settings.limits
    journal: Writer = open_routes(settings.journal)
    quota = Quota(limits)
    begin: Callable[..., Session] = session_type(settings)
    keep: Callable[..., Recorder] = Recorder
    if meter is not None:
        journal, quota = MeteredJournal(meter, journal), MeteredQuota(meter, limits)
        begin, keep = metered_session(meter, session_type(settings)), partial(MeteredRecorder, meter)
    quarantine = Quarantine(settings.state_directory / "quarantine", size=limits.quarantine_size, age=limits.quarantine_age)
    recorder = keep(journal=journal, quarantine=quarantine, limits=limits)
    world = World(clock=time.time, new_id=_fresh_ids(), node_id=plan.node_id)
    engine = ENGINES[settings.milter.engine]
    adapter = Adapter(
        translations=engine.translations,
        new_session=lambda: begin(policy=plan.policy, settings=settings, world=world, quota=quota),
        recorder=recorder,
        answers_connect=settings.refuse_at_connect and plan.policy.refuses_at_connect,
        answers_data=not settings.headers,
        watch=None if meter is None else timed(meter),
    )
    recorder.start()
    return recorder, engine.serve(adapter, listener, lambda: os._exit(LOOP_ENDED))


def _fresh_ids() -> Callable[[], str]:
    """Give random ids without a system call for each: it would let go of the interpreter, and wait for it again.

    They are UUIDs of version 4 (RFC 9562 section 5.4), written at once, without a UUID object.
    """
    bits = random.Random(secrets.randbits(256)).getrandbits  # noqa: S311 - an id has to be new, not secret

    def fresh() -> str:
        digits = f"{bits(128) & ~_VERSION_BITS | _VERSION:032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    return fresh


def _wait_for_end(control: socket.socket, listener: Listener, serving: Serving) -> None:
    """Return when there is nothing left to do. A later word can shorten or lengthen the grace given by an earlier one."""
    grace = _until_told(control, serving)
    if grace is None:
        listener.withdraw()
    serving.leave()
    say_left(control)
    end = time.monotonic() + (ORPHAN_GRACE if grace is None else grace)
    quiet = 0
    while quiet < _QUIET_LOOKS and time.monotonic() < end:
        heard, _, _ = select.select([control] if grace is not None else [], [], [], _LOOK_SECONDS)
        if heard:
            grace = _until_told(control, serving)
            end = time.monotonic() + (ORPHAN_GRACE if grace is None else grace)
        quiet = quiet + 1 if serving.open_connections() == 0 else 0


def _until_told(control: socket.socket, serving: Serving) -> float | None:
    """Answer the supervisor's questions until it tells the grace before the end; give that, or None when it is dead."""
    # This runs in the main thread, beside those of the engine: an interpreter that hangs does not answer.
    while (heard := hear_supervisor(control)) == "alive?":
        serving.prove_alive(partial(say_alive, control))
    return heard
