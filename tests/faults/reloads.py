"""Reloads under load, seen at the milter protocol: every session is judged by one policy, and none waits for another's.

Owns the sessions, the reloads and what was seen of both.
"""

import random
import signal
import time

from msgspec import Struct

from tests.faults.threads import Repeated
from tests.mta.processes import wait_until
from tests.wire.client import CONTINUE, Reply
from tests.wire.program import Program

FIRST = '["one.example"]\nrelay_to = true\n["two.example"]\nlog_oob = "Ignore"\n'
SECOND = '["one.example"]\nlog_oob = "Ignore"\n["two.example"]\nrelay_to = true\n'
"""Two policies that differ in two domains at once: each takes what the other refuses."""

BAD = '["one.example"]\nlog_oob = "Ignore"\n["two.example"]\nrelay_to = "perhaps"\n'
"""Neither of the two, half of it good; it must not take effect, nor half of it."""

_RECIPIENTS = (b"<a@one.example>", b"<a@two.example>")
_REFUSED = Reply("y", "550 5.7.1 relaying not permitted for 203.0.113.9:4444")
_POLICIES: dict[tuple[Reply, ...], str] = {(CONTINUE, _REFUSED): FIRST, (_REFUSED, CONTINUE): SECOND}
# Sessions of every length up to this, so that some are open at each step of a reload.
_LONGEST_PAUSE = 0.03
THREADS = 3
_SESSIONS_BETWEEN = 10


class Seen(Struct, frozen=True, kw_only=True):
    """A session: the answers to its recipients, and the longest time that an answer took, in seconds."""

    answers: tuple[Reply, ...]
    longest: float

    @property
    def policy(self) -> str | None:
        """Give the policy that all answers belong to; None when there is none."""
        return _POLICIES.get(self.answers)


class Report(Struct, frozen=True, kw_only=True):
    """What came of reloads. Times are the longest in which a question was answered, in seconds.

    `fewest_meanwhile` is the number of sessions that ended between a signal to reload and its result, where it was smallest.
    """

    reloads: int
    sessions: int
    fewest_meanwhile: int
    longest_in_peace: float
    longest: float
    wrong: dict[str, list[str]]


def reload_under_load(number: int, *, engine: str = "direct", more_domains: int = 0, quiet_sessions: int = 300) -> Report:
    """Reload so often, with good and bad files in turn, each with so many domains besides."""
    more = "".join(f'["more-{name}.example"]\nlog_oob = true\n' for name in range(more_domains))
    wrong: list[str] = []
    with Program(engine=engine, domains=FIRST + more) as program:
        peace, storm = _Sessions(program), _Sessions(program)
        with peace:
            wait_until(lambda: len(peace.seen) >= quiet_sessions, "sessions without a reload", seconds=60)
        serving, meanwhile = FIRST, []
        with storm:
            for index in range(number):
                # Good, bad, good, bad: each good file is the other policy.
                good, sessions = index % 2 == 0, len(storm.seen)
                serving = serving if not good else SECOND if serving == FIRST else FIRST
                wrong += _reload(program, (serving if good else BAD) + more, good=good)
                meanwhile.append(len(storm.seen) - sessions)
                # An old worker may take one connection more, between its last look for one and the word to leave.
                wait_until(lambda: _session(program).policy == serving, "the right policy serves")  # noqa: B023 - called here
                wait_until(lambda: len(storm.seen) >= sessions + _SESSIONS_BETWEEN, "some sessions have ended")  # noqa: B023 - called here
        bugs = [line["event"] for line in program.lines() if "unexpected" in line["event"]]
        assert program.stop() == 0
    seen = [*peace.seen, *storm.seen]
    return Report(
        reloads=number,
        sessions=len(storm.seen),
        fewest_meanwhile=min(meanwhile),
        longest_in_peace=max(one.longest for one in peace.seen),
        longest=max(one.longest for one in storm.seen),
        wrong={
            "sessions answered by no policy, or by two": [str(one.answers) for one in seen if one.policy is None],
            "reloads that did not end as they must": wrong,
            "unexpected faults in the log": bugs,
        },
    )


class _Sessions(Repeated):
    """A context manager: within it, there is always some session."""

    def __init__(self, program: Program) -> None:
        super().__init__(self._add, threads=THREADS)
        self.seen: list[Seen] = []
        self._program = program

    def _add(self) -> None:
        self.seen.append(_session(self._program, pause=random.uniform(0, _LONGEST_PAUSE)))  # noqa: S311 - no secret


def _session(program: Program, *, pause: float = 0.0) -> Seen:
    """Have a session, with a pause before each recipient."""
    times: list[float] = []
    answers: list[Reply] = []
    with program.mta() as mta:
        began = time.monotonic()
        mta.begin()
        times.append(time.monotonic() - began)
        mta.mail()
        for recipient in _RECIPIENTS:
            time.sleep(pause)
            began = time.monotonic()
            answers.append(mta.rcpt(recipient))
            times.append(time.monotonic() - began)
        mta.abort()
        mta.quit()
    return Seen(answers=tuple(answers), longest=max(times))


def _reload(program: Program, domains: str, *, good: bool) -> list[str]:
    """Load other listener domains until the program logs the result; return what is wrong with that."""
    before = program.log.stat().st_size
    program.write(domains=domains)
    program.signal(signal.SIGHUP)

    def said() -> str | None:
        text = program.log.read_bytes()[before:].decode()
        return next((word for word in ('"reloaded"', '"the reload failed') if f'"event":{word}' in text), None)

    wait_until(said, "the program says what came of the reload", seconds=60)
    return [] if (said() == '"reloaded"') == good else [f"a {'good' if good else 'bad'} file: {said()}"]
