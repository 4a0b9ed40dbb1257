"""A worker: one process that serves connections until it is told to retire, or its supervisor is gone.

It begins with one plan. When it is retiring, each newer plan is passed to it: the messages that its open connections still
begin are judged by the newest rules. Its journal, quarantine, node id and limits stay those of its own plan.

Owns the life of that process. Never starts another, and never listens to signals: the supervisor speaks over the control
socket, and its death is heard there too, whatever killed it.
"""

import os
import random
import secrets
import select
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from msgspec.structs import replace

from sidecar import log
from sidecar.core.policy import compile_policy
from sidecar.core.session import NewestRules, Quota, Rules, Session, World
from sidecar.core.settings.values import LimitSettings
from sidecar.daemon.metrics import Meter
from sidecar.daemon.milter import ENGINES, Adapter, Listener, Serving
from sidecar.daemon.process.child import FAILED, leave_signals_to_supervisor
from sidecar.daemon.process.control import hear_supervisor, say_alive, say_left, say_ready, say_taken
from sidecar.daemon.process.metered import MeteredJournal, MeteredQuota, MeteredRecorder, metered_session, observer
from sidecar.daemon.process.plan import Handover, Plan
from sidecar.journal import JournalError
from sidecar.journal.write import Quarantine, Recorder, Routes
from sidecar.journal.write.recorder import Writer

# After its supervisor died a worker finishes what it has, but not for long: a new supervisor may be starting by now.
ORPHAN_GRACE = 10.0
# How often an ending worker looks whether its connections are over. Nobody waits for it.
_LOOK_SECONDS = 0.05
# A connection may be between accept() and our eyes; twice in a row it cannot be.
_QUIET_LOOKS = 2
# To take a plan: two to receive it, one to map each of its memories, and one that the plan before still has mapped.
_SPARE_DESCRIPTORS = 4
# The exit status when the engine's loop ended by itself.
LOOP_ENDED = 2

# Of a UUID: version and variant, and what they are in a random one.
_VERSION_BITS, _VERSION = 0xF << 76 | 0x3 << 62, 0x4 << 76 | 0x2 << 62

_LOG = log.get("worker")


def work(listener: Listener, control: socket.socket, plan: Plan, meter: Meter | None) -> int:
    """Serve until told to end, and count with a meter. Return the exit status."""
    try:
        leave_signals_to_supervisor()
        rules = NewestRules(Rules(policy=plan.policy, settings=plan.settings))
        # Connections may take all others, and a plan must be taken even then.
        spare = [os.dup(control.fileno()) for _ in range(_SPARE_DESCRIPTORS)]
        recorder, serving = _begin(listener, plan, rules, meter)
        say_ready(control)
        _wait_for_end(control, listener, serving, spare, partial(_take, rules, plan.settings.limits))
        recorder.close()
    except JournalError as error:
        _LOG.error(str(error))
        return FAILED
    except Exception as error:  # noqa: BLE001 - whatever it is, another worker takes its place
        _LOG.error("the worker failed", exc_info=error)
        return FAILED
    return 0


def _begin(listener: Listener, plan: Plan, rules: NewestRules, meter: Meter | None) -> tuple[Recorder, Serving]:
    settings, limits = plan.settings, plan.settings.limits
    journal: Writer = Routes(settings.journal)
    quota = Quota(limits)
    begin: type[Session] = Session
    keep: Callable[..., Recorder] = Recorder
    if meter is not None:
        journal, quota = MeteredJournal(meter, journal), MeteredQuota(meter, limits)
        begin, keep = metered_session(meter), partial(MeteredRecorder, meter)
    quarantine = Quarantine(settings.state_directory / "quarantine", size=limits.quarantine_size, age=limits.quarantine_age)
    recorder = keep(journal=journal, quarantine=quarantine, limits=limits)
    world = World(clock=time.time, new_id=_fresh_ids(), node_id=plan.node_id)
    engine = ENGINES[settings.milter.engine]
    # Agreed on with the MTA for each connection, and kept whatever is reloaded.
    answers_data = not settings.headers
    adapter = Adapter(
        translations=engine.translations,
        new_session=partial(begin, rules=rules, world=world, quota=quota, answers_data=answers_data),
        recorder=recorder,
        answers_connect=settings.refuse_at_connect and plan.policy.refuses_at_connect,
        answers_data=answers_data,
        waits=engine.waits,
        watch=(lambda _: None) if meter is None else partial(observer, meter),
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


def _take(rules: NewestRules, limits: LimitSettings, handover: Handover) -> None:
    """Judge new messages by the settings of a reload; where that fails, by none, so that they are tempfailed."""
    try:
        settings = handover.read().settings
        if settings is None:
            raise ValueError("no settings were passed on")  # noqa: TRY301 - to be logged like every other reason
        # The counts that these bound are this worker's own.
        settings = replace(settings, limits=limits)
        rules.replace(Rules(policy=compile_policy(settings), settings=settings))
    except Exception as error:  # noqa: BLE001 - whatever it is, the rules from before must not be used any more
        rules.withdraw()
        what = "this old worker could not take the reloaded settings: new messages of its open connections are answered 451"
        _LOG.error(what, exc_info=error)
    finally:
        handover.close()


def _wait_for_end(
    control: socket.socket, listener: Listener, serving: Serving, spare: Sequence[int], take: Callable[[Handover], None]
) -> None:
    """Return when there is nothing left to do. A later word can shorten or lengthen the grace given by an earlier one."""
    while (grace := _attend(control, serving, take)) == "wait":
        pass
    if grace is None:
        listener.withdraw()
    serving.leave()
    say_left(control)
    # From here on no new connection takes them.
    for descriptor in spare:
        os.close(descriptor)
    end = time.monotonic() + (ORPHAN_GRACE if grace is None else grace)
    quiet = 0
    while quiet < _QUIET_LOOKS and time.monotonic() < end:
        heard, _, _ = select.select([control] if grace is not None else [], [], [], _LOOK_SECONDS)
        if heard and (word := _attend(control, serving, take)) != "wait":
            grace = word
            end = time.monotonic() + (ORPHAN_GRACE if grace is None else grace)
        quiet = quiet + 1 if serving.open_connections() == 0 else 0


def _attend(control: socket.socket, serving: Serving, take: Callable[[Handover], None]) -> float | Literal["wait"] | None:
    """Do what the supervisor says next. Return the grace before the end where it gives one, None when it is dead."""
    # This runs in the main thread, beside those of the engine: an interpreter that hangs does not answer.
    heard = hear_supervisor(control)
    if heard == "alive?":
        serving.prove_alive(partial(say_alive, control))
        return "wait"
    if isinstance(heard, Handover):
        take(heard)
        say_taken(control)
        return "wait"
    return heard
