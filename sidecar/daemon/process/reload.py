"""From settings that were loaded anew to the next plan, and to the log.

Owns what a reload can change and what it cannot. Never loads anything, and never starts anything.
"""

import gc

import msgspec

from sidecar import log
from sidecar.config import Loaded
from sidecar.core.findings import Finding
from sidecar.core.settings.values import Settings
from sidecar.daemon.process.plan import Plan, Replanned, make_plan
from sidecar.daemon.process.privileges import SetupError

_LOG = log.get("supervisor")


def replan(old: Plan, loaded: Loaded) -> Replanned:
    """Make a plan of settings that were loaded anew. Errors go to the log, and into the answer as well."""
    for problem in loaded.problems:
        tell(problem)
    if loaded.settings is None:
        errors = tuple(map(_in_one_line, (problem for problem in loaded.problems if problem.level == "error")))
        return Replanned(plan=None, problems=errors)
    try:
        plan = make_plan(_kept(old.settings, loaded.settings), loaded.sources)
    except SetupError as error:
        _LOG.error(str(error))
        folders = (loaded.settings.state_directory, *loaded.settings.journal.directories)
        return Replanned(plan=None, problems=(f"{error}.",), folders=folders)
    log.configure(level=plan.settings.log.level, format=plan.settings.log.format)
    waiting = _at_next_start(old.settings, loaded.settings)
    for name in waiting:
        _LOG.warning(f"{name} has changed: that takes effect at the next start, not at a reload")
    settle_memory()
    return Replanned(plan=msgspec.structs.replace(plan, needs_restart=waiting))


def tell(problem: Finding) -> None:
    """Log a problem with the settings."""
    say = _LOG.error if problem.level == "error" else _LOG.warning
    say(problem.text, code=problem.code, fix=problem.fix, where=problem.place, key=problem.key)


def settle_memory() -> None:
    """Keep the garbage collector of the workers off the policy, so that they go on sharing its memory after the fork."""
    # What was frozen for an earlier plan may be garbage by now.
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _in_one_line(problem: Finding) -> str:
    return f"{problem.place}: {problem.key}: {problem.text}" if problem.file else problem.text


def _kept(old: Settings, new: Settings) -> Settings:
    """Give the new settings with the old ones for what cannot change while the program runs."""
    by_default = new.journal.directory == new.state_directory / "journal"
    directory = old.journal.directory if by_default and new.state_directory != old.state_directory else new.journal.directory
    return msgspec.structs.replace(
        new,
        state_directory=old.state_directory,
        journal=msgspec.structs.replace(new.journal, directory=directory),
        user=old.user,
        group=old.group,
        milter=msgspec.structs.replace(
            old.milter, workers=new.milter.workers, engine=new.milter.engine, cpu_affinity=new.milter.cpu_affinity
        ),
        admin=old.admin,
    )


def _at_next_start(old: Settings, new: Settings) -> tuple[str, ...]:
    """Return the names of the settings that a reload does not change, and that differ."""
    own = {name: (getattr(old, name), getattr(new, name)) for name in ("state_directory", "user", "group", "admin")}
    milter = {
        f"milter.{name}": (getattr(old.milter, name), getattr(new.milter, name))
        for name in ("socket", "socket_mode", "socket_owner", "socket_group")
    }
    return tuple(name for name, (before, now) in {**own, **milter}.items() if before != now)
