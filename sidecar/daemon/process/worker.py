"""A worker: one process that serves connections until it is ordered to retire, or its supervisor is dead.

It begins with one plan. When it is retiring, each newer plan is passed to it: new messages of its open connections are judged
by the newest rules. Its journal, quarantine, node id and limits stay those of its first plan.

Owns the life of that process. Never starts another, and ignores signals: orders are on the control socket.
"""

import os
import random
import secrets
import select
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial

from msgspec.structs import replace

from sidecar import log
from sidecar.core.policy import compile_policy
from sidecar.core.session import NewestRules, Quota, Rules, Session, World
from sidecar.core.session.suppressing import SuppressionList
from sidecar.core.settings.values import LimitSettings
from sidecar.daemon.metrics import Meter
from sidecar.daemon.milter import ENGINES, Adapter, Listener, Serving
from sidecar.daemon.milter.negotiation import signing_actions
from sidecar.daemon.process.child import FAILED, ignore_signals, receive_order, send
from sidecar.daemon.process.metered import MeteredJournal, MeteredQuota, MeteredRecorder, metered_session, observer
from sidecar.daemon.process.plan import Handover, Plan
from sidecar.journal import JournalError
from sidecar.journal.read import Checkpoints
from sidecar.journal.read.retention import Retention
from sidecar.journal.write import Quarantine, Recorder, Routes
from sidecar.journal.write.recorder import Writer
from sidecar.machine import free_bytes

# After its supervisor's death a worker finishes its open connections, but not for long: a new supervisor may be starting.
ORPHAN_GRACE = 10.0
# How often an ending worker checks whether its connections are over. Nothing waits for it.
_LOOK_SECONDS = 0.05
# A connection may be between accept() and the count of connections. Twice in a row it cannot be.
_QUIET_LOOKS = 2
# To apply a plan: two to receive it, one to map each of its memories, and one that the plan before still has mapped.
_SPARE_DESCRIPTORS = 4
# The exit status when the engine's loop ended by itself.
LOOP_ENDED = 2

# Of a UUID: version and variant, and what they are in a random one.
_VERSION_BITS, _VERSION = 0xF << 76 | 0x3 << 62, 0x4 << 76 | 0x2 << 62

_LOG = log.get("worker")


def work(
    listener: Listener, control: socket.socket, plan: Plan, meter: Meter | None, *, suppression: SuppressionList | None = None
) -> int:
    """Serve until ordered to end, look recipients up in a suppression list, and count with a meter. Return the exit status."""
    try:
        ignore_signals()
        log.configure(level=plan.settings.log.level, format=plan.settings.log.format)
        rules = NewestRules(Rules(policy=plan.policy, settings=plan.settings))
        # Connections may use all other descriptors, and a plan must be applied even then.
        spare = [os.dup(control.fileno()) for _ in range(_SPARE_DESCRIPTORS)]
        recorder, serving = _begin(listener, plan, rules, meter, suppression)
        send(control, "ready")
        _wait_for_end(control, listener, serving, spare, partial(_apply, rules, plan.settings.limits))
        recorder.close()
    except JournalError as error:
        _LOG.error(str(error))
        return FAILED
    except Exception as error:  # noqa: BLE001 - whatever it is, another worker replaces this one
        _LOG.error("the worker failed", exc_info=error)
        return FAILED
    return 0


def _begin(
    listener: Listener, plan: Plan, rules: NewestRules, meter: Meter | None, suppression: SuppressionList | None
) -> tuple[Recorder, Serving]:
    settings, limits = plan.settings, plan.settings.limits
    journal: Writer = Routes(settings.journal)
    quota = Quota(limits)
    new_session: type[Session] = Session
    new_recorder: Callable[..., Recorder] = Recorder
    if meter is not None:
        journal, quota = MeteredJournal(meter, journal), MeteredQuota(meter, limits)
        new_session, new_recorder = metered_session(meter), partial(MeteredRecorder, meter)
    quarantine = Quarantine(settings.quarantine_directory, size=limits.quarantine_size, age=limits.quarantine_age)
    checkpoints = Checkpoints(settings.checkpoints_directory)
    retention = Retention(settings.journal, checkpoints, settings.retention_file, clock=time.time, free=free_bytes)
    recorder = new_recorder(journal=journal, quarantine=quarantine, limits=limits, retain=retention.sweep)
    world = World(clock=time.time, new_id=_new_ids(), node_id=plan.node_id, suppression=suppression)
    engine = ENGINES[settings.milter.engine]
    # Negotiated with the MTA for each connection, and kept whatever is reloaded.
    answers_data = settings.decides_at_data
    adapter = Adapter(
        translations=engine.translations,
        new_session=partial(new_session, rules=rules, world=world, quota=quota, answers_data=answers_data),
        recorder=recorder,
        answers_connect=settings.reject_at_connect and plan.policy.rejects_at_connect,
        answers_data=answers_data,
        signing=signing_actions(settings.sign),
        waits=engine.waits,
        watch=(lambda _: None) if meter is None else partial(observer, meter),
    )
    recorder.start()
    return recorder, engine.serve(adapter, listener, settings.state_directory, lambda: os._exit(LOOP_ENDED))


def _new_ids() -> Callable[[], str]:
    """Return a function for random UUIDs of version 4 (RFC 9562 section 5.4), without a system call or object for each."""
    bits = random.Random(secrets.randbits(256)).getrandbits  # noqa: S311 - an id has to be new, not secret

    def new_id() -> str:
        digits = f"{bits(128) & ~_VERSION_BITS | _VERSION:032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    return new_id


def _apply(rules: NewestRules, limits: LimitSettings, handover: Handover) -> None:
    """Judge new messages by reloaded settings. If that fails, judge none, so that they are tempfailed."""
    try:
        settings = handover.read().settings
        if settings is None:
            raise ValueError("no settings were passed on")  # noqa: TRY301 - to be logged like every other reason
        # The counts that these bound are this worker's own.
        settings = replace(settings, limits=limits)
        rules.rules = Rules(policy=compile_policy(settings), settings=settings)
    except Exception as error:  # noqa: BLE001 - whatever it is, the earlier rules must not be used any more
        rules.rules = None
        what = "this old worker could not apply the reloaded settings: new messages of its open connections are answered 451"
        _LOG.error(what, exc_info=error)
    finally:
        handover.close()


def _wait_for_end(
    control: socket.socket, listener: Listener, serving: Serving, spare: Sequence[int], apply: Callable[[Handover], None]
) -> None:
    """Obey the supervisor until nothing is left to do. A later order can shorten or lengthen the grace of an earlier one."""
    # This runs in the main thread, beside those of the engine: an interpreter that hangs does not answer.
    end: float | None = None
    orphaned, quiet = False, 0
    while end is None or (quiet < _QUIET_LOOKS and time.monotonic() < end):
        if select.select([] if orphaned else [control], [], [], None if end is None else _LOOK_SECONDS)[0]:
            order = receive_order(control)
            if order == "ping":
                serving.prove_alive(partial(send, control, "alive"))
                continue
            if isinstance(order, Handover):
                apply(order)
                send(control, "applied")
                continue
            orphaned = order is None
            if end is None:
                if orphaned:
                    listener.withdraw()
                serving.leave()
                send(control, "left")
                # From here on no new connection takes them.
                for descriptor in spare:
                    os.close(descriptor)
            end = time.monotonic() + (ORPHAN_GRACE if order is None else order)
        quiet = quiet + 1 if serving.open_connections() == 0 else 0
