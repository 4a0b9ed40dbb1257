"""How workers end: the time that they get for their open connections, and the newest settings for what these still send.

Owns those times, and how many old generations there are. Never starts a worker.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from sidecar.daemon.process.control import say_retire
from sidecar.daemon.process.plan import Plan
from sidecar.daemon.process.process import Worker

# systemd waits 90 s by default; an MTA asks the peer to come again, so nothing is lost when time is up.
STOP_GRACE: Final = 10.0
# A session may take as long as a slow peer with a big message: RFC 5321 section 4.5.3.2 gives 10 minutes for the final reply.
RELOAD_GRACE: Final = 600.0
# A worker ends by itself when its grace is over; this long after, it is killed.
KILL_AFTER: Final = 2.0
# Old generations that keep RELOAD_GRACE. Each one is a set of processes of some 30 MB, and MTAs keep connections open for
# minutes: without a bound, a reload every few seconds would fill the memory.
RETIRING_GENERATIONS: Final = 2


def retire(workers: Iterable[Worker], grace: float) -> None:
    """Tell workers to end; one that is retiring already gets the shorter time of the two."""
    for one in workers:
        kill_at = one.clock() + grace + KILL_AFTER
        if one.retiring and one.kill_at is not None and one.kill_at <= kill_at:
            continue
        one.retiring = True
        one.kill_at = kill_at
        say_retire(one.control, grace)


def replace_generation(workers: Sequence[Worker], old: Plan, new: Plan) -> None:
    """Retire the workers of the old plan, pass the new plan to all that are retiring, and bound the old generations.

    Of these, one more than RETIRING_GENERATIONS gets STOP_GRACE, and those before it end at once.
    """
    retire([one for one in workers if one.plan is old], RELOAD_GRACE)
    for one in workers:
        if one.retiring and new.handover is not None:
            one.hand(new.handover)
    generations = list(dict.fromkeys(one.plan for one in reversed(workers) if one.retiring))
    for plan in generations[RETIRING_GENERATIONS:]:
        grace = STOP_GRACE if plan is generations[RETIRING_GENERATIONS] else 0.0
        retire([one for one in workers if one.plan is plan and one.retiring], grace)


def behind(workers: Iterable[Worker]) -> list[Worker]:
    """Return the retiring workers that may still judge a new message by an earlier plan."""
    return [one for one in workers if one.retiring and not (one.left and one.taken == one.handed)]
