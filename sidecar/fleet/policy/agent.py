"""The agent of a node: it brings the revisions of the fleet's policy to this node, and reports what became of them.

1. Look: read new manifests from the bucket, and keep the highest that a known key has signed for this node (`_consider`).
2. Take: fetch its files, write them to the state directory, and propose it (`_take`).
3. Reload: the supervisor loads and checks all settings with the revision. If they are good it serves them, and replaces this
   process: the next one makes the revision the active one (`work`). Otherwise this one drops it (`_follow_reload`).
4. Watch: a canary that tempfails too much returns to its earlier revision (`_watch_trial`).

If anything fails, the earlier revision stays active. A start takes only the active one. No verdict waits for this process.
"""

import asyncio
import hashlib
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from importlib import metadata
from math import inf
from typing import Final

import msgspec
from msgspec.structs import replace
from nats.aio.msg import Msg

from sidecar import log
from sidecar.core.fleet_view import CanaryHealth
from sidecar.core.settings.settings import Settings
from sidecar.core.text import shown
from sidecar.fleet import FleetError
from sidecar.fleet.connection import FleetConnection, persist, run
from sidecar.fleet.policy.buckets import Buckets
from sidecar.fleet.policy.manifest import IncompleteError, Manifest, PolicyError, read_manifest
from sidecar.fleet.policy.report import HealthMeter, NodeReport, lag_of, supervisor_status
from sidecar.fleet.policy.store import AgentState, PolicyStore, Trial
from sidecar.journal import JournalError

# A new revision wakes the agent; this is for a message that was lost, and for the health of a canary.
LOOK_SECONDS = 2.0
# Without a change. `sidecar fleet status` calls a node silent after three times as long.
REPORT_SECONDS = 10.0
# After a file that is missing or truncated, which may still be on its way to this server; twice as long each time.
_FETCH_SECONDS: Final = (1.0, 30.0)
# After a reload that failed: perhaps memory or a disk had no room.
_RELOAD_SECONDS = (60.0, 3600.0)
_LIMIT: Final = 1000
# Errors of a reload.
_SHOWN: Final = 3
# Of the highest revision: a longer key is no number of one.
_DIGITS: Final = 15

_LOG = log.get("policy")


class Agent:
    """The agent of the settings that serve now. `reload` makes the supervisor load the settings again."""

    def __init__(self, settings: Settings, reload: Callable[[], None]) -> None:
        assert settings.fleet is not None  # noqa: S101 - the caller's condition
        self._settings, self._fleet, self._reload = settings, settings.fleet, reload
        self._store = PolicyStore(settings.state_directory)
        self.serving = settings.fleet.revision or 0
        self.rejection = self.trouble = ""
        self._after = 0
        self._target: tuple[Manifest, bytes] | None = None
        self._worst = 0
        self._again: dict[int, float] = {}
        self._pauses: dict[int, float] = {}
        self._begun = False
        self._proposed = 0.0
        self._trial: Trial | None = None
        self._meter: HealthMeter | None = None
        self._health: CanaryHealth | None = None
        self._wake = asyncio.Event()
        self._reported: tuple[NodeReport, float] | None = None

    async def work(self, connection: FleetConnection) -> None:
        """Follow the buckets until this is cancelled."""
        buckets = Buckets(connection.client, self._fleet)
        self._after, self._reported = 0, None
        await connection.client.subscribe(buckets.subject, cb=self._on_message)
        while True:
            self._wake.clear()
            await self.look(buckets)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()

    def begin(self) -> None:
        """Make the revision that serves the active one, also without NATS. Drop what the process before this one proposed."""
        try:
            self._begin()
        except OSError as error:
            self._fail_disk(error)

    def _begin(self) -> None:
        if self.serving != self._store.active():
            self._store.activate(self.serving)
            _LOG.info("a revision of the policy is active", revision=self.serving)
        self._store.drop()
        self._begun = True

    async def look(self, buckets: Buckets) -> None:
        """Take every step that is due."""
        try:
            if not self._begun:
                self._begin()
            async for sequence, key, value in buckets.manifests(self._after):
                self._after = sequence
                self._consider(key, value)
            if self._store.candidate() is not None:
                self._follow_reload()
            else:
                await self._take_target(buckets)
                self._watch_trial()
            self._recover()
            await self._report(buckets)
        except (FleetError, JournalError) as error:
            self._fail(str(error))
        except OSError as error:
            self._fail_disk(error)

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    async def _on_message(self, _: Msg) -> None:
        self.wake()

    # --- 1. look

    def _consider(self, key: str, value: bytes) -> None:
        """Keep the manifest if this node has to take it, and no later one is known."""
        try:
            manifest = read_manifest(value, self._fleet, self._fleet.policy_keys, key=key)
        except PolicyError as error:
            # What is older than this node's revision can have a key that is no longer in use.
            number = int(key) if key.isdecimal() and len(key) <= _DIGITS else 0
            if number > max(self._worst, self.serving) or not number:
                self._worst = max(self._worst, number)
                self._reject(shown(key), str(error))
            return
        if manifest.is_for(self._fleet.node) and (self._target is None or manifest.revision > self._target[0].revision):
            self._target = manifest, value

    # --- 2. take

    async def _take_target(self, buckets: Buckets) -> None:
        if self._target is None:
            return
        manifest, value = self._target
        state, revision = self._store.load(), manifest.revision
        if revision in {self.serving, state.held} or not self._is_due(revision):
            return
        try:
            self._protect(state, manifest, value)
            await self._take(buckets, manifest, value)
        except PolicyError as error:
            if isinstance(error, IncompleteError):
                self._delay(revision, _FETCH_SECONDS)
            else:
                self._again[revision] = inf
            self._reject(str(revision), str(error))
        except OSError:
            self._delay(revision, _FETCH_SECONDS)
            raise

    def _delay(self, revision: int, seconds: tuple[float, float]) -> None:
        """Try it again later, after twice as long as before; `seconds` are the first and the longest pause."""
        first, longest = seconds
        self._pauses[revision] = min(2 * self._pauses.get(revision, first / 2), longest)
        self._again[revision] = time.monotonic() + self._pauses[revision]

    def _is_due(self, revision: int) -> bool:
        return time.monotonic() >= self._again.get(revision, 0.0)

    def _protect(self, state: AgentState, manifest: Manifest, value: bytes) -> None:
        """Reject an earlier manifest that someone presents again, and remember this one. Raise PolicyError."""
        digest = hashlib.sha256(value).hexdigest()
        if manifest.revision < state.highest:
            raise PolicyError(f"it is older than revision {state.highest}, which this node knows: someone presents it again")
        if manifest.revision == state.highest and state.digest not in {"", digest}:
            raise PolicyError("this node knows another manifest with this number")
        self._store.save(replace(state, highest=manifest.revision, digest=digest))

    async def _take(self, buckets: Buckets, manifest: Manifest, value: bytes) -> None:
        """Fetch, write and propose a revision. Raise PolicyError."""
        files = [(file, self._store.file(file) or await buckets.file(file)) for file in manifest.files]
        self._store.write(manifest, value, files)
        state, canary, trial = self._store.load(), manifest.canary, None
        if canary is not None:
            trial = Trial(revision=manifest.revision, hold_at=canary.hold_at, earlier=self.serving, since=time.time())
        self._trial = state.trial
        self._store.save(replace(state, trial=trial, held=0, why=""))
        self._propose(manifest.revision)

    def _reject(self, revision: str, why: str) -> None:
        if (rejection := f"revision {revision}: {why}"[:_LIMIT]) != self.rejection:
            self.rejection = rejection
            _LOG.error("a revision of the policy is rejected", revision=revision, error=why, serving=self.serving)

    def _fail(self, why: str) -> None:
        if why != self.trouble:
            self.trouble = why
            _LOG.error("the policy of the fleet cannot be followed", error=why)

    def _fail_disk(self, error: OSError) -> None:
        self._fail(f"the state directory cannot be used: {error.strerror}")

    def _recover(self) -> None:
        if self.trouble:
            _LOG.info("the policy of the fleet is followed again")
        self.trouble = ""
        if self.serving == self._latest == self._store.active() and self._worst <= self._latest:
            self.rejection = ""

    @property
    def _latest(self) -> int:
        """The revision that this node has to take; 0 if there is none."""
        return 0 if self._target is None else self._target[0].revision

    # --- 3. reload

    def _propose(self, revision: int) -> None:
        self._store.propose(revision)
        self._proposed = time.time()
        self.rejection = ""
        self._reload()

    def _follow_reload(self) -> None:
        """Drop what the supervisor could not load: this process would not live otherwise."""
        candidate, problems = self._store.candidate(), self._problems()
        if candidate is not None and problems:
            self._store.drop()
            self._delay(candidate, _RELOAD_SECONDS)
            self._store.save(replace(self._store.load(), trial=self._trial))
            self._reject(str(candidate), f"the reload failed: {'; '.join(problems[:_SHOWN])}")

    def _problems(self) -> tuple[str, ...]:
        """Return what went wrong in a reload since the proposal; nothing while it is not over."""
        reload = supervisor_status(self._settings.state_directory).last_reload
        # Its time has whole seconds.
        return () if reload is None or _seconds(reload.time) < int(self._proposed) else reload.problems

    # --- 4. watch

    def _watch_trial(self) -> None:
        """Leave a canary revision that tempfails more than its publisher allows."""
        state = self._store.load()
        trial = state.trial
        if trial is None or trial.revision != self.serving:
            if self._meter is not None:
                self._meter.close()
            self._meter = self._health = None
            return
        if state.held != trial.revision:
            if self._meter is None:
                self._meter = HealthMeter(self._settings)
            self._health = self._meter.look()
            if (why := self._health.exceeds(trial.hold_at)) is None:
                return
            _LOG.error("the canary is held: this node returns to its earlier revision", revision=trial.revision, error=why)
            self._store.save(replace(state, held=trial.revision, why=why))
        if self._is_due(trial.earlier):
            self._trial = trial
            self._propose(trial.earlier)

    # --- report

    async def _report(self, buckets: Buckets) -> None:
        """Report this node, if that has changed or is due."""
        state = self._store.load()
        report = NodeReport(
            node=self._fleet.node,
            program=_PROGRAM,
            revision=self.serving,
            latest=self._latest,
            error=self.rejection,
            held=state.why,
            held_revision=state.held,
            lag=lag_of(self._settings),
            health=self._health,
        )
        now = time.monotonic()
        if self._reported is None or replace(self._reported[0], lag=report.lag) != report or now >= self._reported[1]:
            await buckets.put_report(msgspec.json.encode(report))
            self._reported = report, now + REPORT_SECONDS


def _version() -> str:
    try:
        return metadata.version("sidecar")
    except metadata.PackageNotFoundError:
        return "unknown"


_PROGRAM: Final = _version()


def _seconds(moment: str) -> float:
    """Return a time in seconds since 1970; 0 if it is none."""
    try:
        return datetime.fromisoformat(moment).timestamp()
    except ValueError:
        return 0.0


def follow_policy(settings: Settings, wait: Callable[[float], bool]) -> None:
    """Follow the fleet's policy until `wait` returns True."""
    assert settings.fleet is not None  # noqa: S101 - the caller's condition
    fleet, supervisor = settings.fleet, os.getppid()

    def reload() -> None:
        # After its death the number can be another process.
        if os.getppid() == supervisor:
            os.kill(supervisor, signal.SIGHUP)

    async def following() -> None:
        agent = Agent(settings, reload)
        agent.begin()

        def connect() -> FleetConnection:
            return FleetConnection(fleet, role="policy", restored=agent.wake)

        async def pause(seconds: float, _: str) -> None:
            await asyncio.sleep(seconds)

        await persist(connect, agent.work, pause=pause)

    run(following(), wait)
