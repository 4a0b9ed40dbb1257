"""The disk thread of a worker: all lines that wait are written together and synced once (group commit).

Owns the order: write, report what needs no sync, sync, report the rest. Never decides which journal a record belongs to.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue

from sidecar import log
from sidecar.journal import JournalError
from sidecar.journal.write.journal import Journal
from sidecar.journal.write.segment import Segment

Done = Callable[[JournalError | None], None]
"""Called with the error, or None if the lines are written; from the disk thread."""

# Before a sync, lines that arrived during the last write are also written: those that need no sync do not wait for it.
_ROUNDS = range(2)
# Lines that wait while the disk is slow, as much as one record has at most. Above it, messages are tempfailed.
_WAITING_LIMIT = 64 * 1024 * 1024

_LOG = log.get("journal")


class _Job:
    """The lines of one batch, and the result of writing them."""

    __slots__ = ("done", "durable", "error", "lines", "segments", "size")

    def __init__(self, lines: Sequence[tuple[Journal, bytes]], done: Done, size: int, *, durable: bool) -> None:
        self.lines = lines
        self.size = size
        self.durable = durable
        self.segments: list[tuple[Journal, Segment]] = []
        self.error: JournalError | None = None
        self.done: Done | None = done


class DiskThread:
    """Writes to these journals in a thread of its own. Build it after the fork."""

    def __init__(self, journals: Iterable[Journal]) -> None:
        self._journals = tuple(journals)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._closed = False
        self._lock = threading.Lock()
        self._waiting = 0
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)
        self._thread.start()

    def submit(self, lines: Sequence[tuple[Journal, bytes]], *, durable: bool, done: Done) -> None:
        """Write lines soon, then call `done`; with `durable` they are on disk by then."""
        size = sum(len(own) for _, own in lines)
        with self._lock:
            if self._closed:
                error = "the journal is closed; nothing can be written to it any more"
            elif self._waiting > 0 and self._waiting + size > _WAITING_LIMIT:
                error = "the disk is too slow for the records that wait to be written; each new message tries again"
            else:
                self._waiting += size
                self._jobs.put(_Job(lines, done, size, durable=durable))
                return
        done(JournalError(error))

    def roll(self) -> None:
        """Finish segments that are too old, soon."""
        self.submit((), durable=False, done=lambda _: None)

    def close(self) -> None:
        """Write what waits, end the thread, and finish the journals."""
        with self._lock:  # no job follows the end
            self._closed = True
            self._jobs.put(None)
        self._thread.join()
        for journal in self._journals:
            journal.close()

    def _run(self) -> None:
        jobs: list[_Job] = []
        is_open = True
        while is_open:
            try:
                is_open = self._write(jobs)
            except Exception as error:  # noqa: BLE001 - without this thread every message would wait
                _LOG.error("an unexpected fault while records were written", exc_info=error)
                for job in jobs:
                    job.error = JournalError(f"records could not be written, because of an unexpected fault: {error!r}")
                is_open = not (self._closed and self._jobs.empty())  # these can have been the last jobs
            for job in jobs:
                self._report(job)
            jobs.clear()

    def _write(self, jobs: list[_Job]) -> bool:
        """Wait for jobs, put them into the list, and write their lines. Return False if these were the last."""
        is_open, wait = True, True
        for _ in _ROUNDS:
            begin = len(jobs)
            try:
                while (job := self._jobs.get(block=wait)) is not None:
                    jobs.append(job)
                    wait = False
                is_open = False
            except Empty:
                pass
            wait = False
            self._append(jobs[begin:])
        unsynced = {segment: journal for job in jobs if job.durable for journal, segment in job.segments}
        errors = {segment: journal.sync(segment) for segment, journal in unsynced.items()}
        for job in jobs:
            if job.durable:
                job.error = job.error or next((e for _, segment in job.segments if (e := errors[segment]) is not None), None)
                self._report(job)
        for journal in self._journals:
            journal.roll()
        return is_open

    def _append(self, jobs: Sequence[_Job]) -> None:
        by_journal: dict[Journal, list[tuple[_Job, bytes]]] = {}
        for job in jobs:
            for journal, lines in job.lines:
                by_journal.setdefault(journal, []).append((job, lines))
        for journal, parts in by_journal.items():
            for (job, _), result in zip(parts, journal.append([lines for _, lines in parts]), strict=True):
                if isinstance(result, JournalError):
                    job.error = result
                else:
                    job.segments.append((journal, result))
        for job in jobs:
            if not job.durable:
                self._report(job)

    def _report(self, job: _Job) -> None:
        """Call `done` of a job, once."""
        done, job.done = job.done, None
        if done is not None:
            with self._lock:
                self._waiting -= job.size
            try:
                # A new exception for each: threads that raise the same one write into each other's traceback.
                done(None if job.error is None else JournalError(*job.error.args))
            except Exception as error:  # noqa: BLE001 - the other jobs must be reported
                _LOG.error("an unexpected fault after records were written", exc_info=error)
