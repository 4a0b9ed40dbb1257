"""The way into this room: from settings to a serving supervisor, and from files that changed to the next plan.

Owns start and reload. Never waits for anything; the supervisor does.
"""

import gc
import os
import resource
from collections.abc import Sequence
from pathlib import Path

import msgspec

from sidecar import log
from sidecar.milter import Listener, ListenError, listen
from sidecar.settings import load
from sidecar.settings.values import Problem, Settings, Source
from sidecar.supervisor.plan import Plan, PlanError, Replanned, make_plan
from sidecar.supervisor.privileges import (
    Identity,
    PrivilegeError,
    become,
    give_folder,
    see_that_it_may_read,
    whom_to_become,
)
from sidecar.supervisor.supervisor import Supervisor

_LOG = log.get("supervisor")


def run(config: Path | None, settings: Settings, sources: Sequence[Source]) -> int:
    """Serve with these settings, loaded from `config` and what it names, until told to stop; give the exit status."""
    try:
        listener, plan = _prepare(settings, sources)
    except (PlanError, ListenError, PrivilegeError) as error:
        _LOG.error(str(error))
        return 1
    _settle_memory()
    _allow_many_files()
    return Supervisor(listener=listener, plan=plan, sources=sources, replan=lambda old: _replan(config, old)).run()


def _prepare(settings: Settings, sources: Sequence[Source]) -> tuple[Listener, Plan]:
    """Get everything that serving takes; as root, that which only root can get, and then root's rights are given up."""
    identity = whom_to_become(settings)
    if identity is None:
        plan = make_plan(settings, sources)
        return listen(settings.milter), plan
    for folder in (settings.state_directory, settings.journal.directory):
        give_folder(folder, identity)
    # Its owner may connect whatever the mode says, and the supervisor has to: it looks whether the socket answers.
    owner = settings.milter.socket_owner or identity.user
    listener = listen(msgspec.structs.replace(settings.milter, socket_owner=owner))
    try:
        _give_up_root(identity, settings, sources)
        return listener, make_plan(settings, sources)
    except BaseException:
        listener.close()
        raise


def _give_up_root(identity: Identity, settings: Settings, sources: Sequence[Source]) -> None:
    become(identity)
    see_that_it_may_read(identity, sources)
    # The default depends on who asks, and must not change at the next reload.
    os.environ["STATE_DIRECTORY"] = str(settings.state_directory)
    _LOG.info(f"gave up root's rights for those of user {identity.user}")


def _replan(config: Path | None, old: Plan) -> Replanned:
    """Load the settings anew. Every problem goes to the log, and errors into the answer as well."""
    loaded = load(config)
    for problem in loaded.problems:
        tell(problem)
    if loaded.settings is None:
        errors = tuple(map(_in_one_line, (problem for problem in loaded.problems if problem.severity == "error")))
        return Replanned(plan=None, problems=errors, sources=loaded.sources)
    try:
        plan = make_plan(_kept(old.settings, loaded.settings), loaded.sources)
    except PlanError as error:
        _LOG.error(str(error))
        return Replanned(plan=None, problems=(f"{error}.",), sources=loaded.sources)
    log.configure(level=plan.settings.log.level, format=plan.settings.log.format)
    _warn_of_unchanged(old.settings, loaded.settings)
    _settle_memory()
    return Replanned(plan=plan, sources=loaded.sources)


def tell(problem: Problem) -> None:
    """Log a problem with the settings."""
    tell = _LOG.error if problem.severity == "error" else _LOG.warning
    tell(problem.text, mend=problem.mend, where=str(problem.where), key=problem.where and problem.where.key)


def _in_one_line(problem: Problem) -> str:
    return f"{problem.where}: {problem.where.key}: {problem.text}" if problem.where else problem.text


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
        milter=msgspec.structs.replace(old.milter, workers=new.milter.workers),
    )


def _warn_of_unchanged(old: Settings, new: Settings) -> None:
    own = {name: (getattr(old, name), getattr(new, name)) for name in ("state_directory", "user", "group")}
    milter = {
        f"milter.{name}": (getattr(old.milter, name), getattr(new.milter, name))
        for name in ("socket", "socket_mode", "socket_owner", "socket_group")
    }
    for name, (before, now) in {**own, **milter}.items():
        if before != now:
            _LOG.warning(f"{name} has changed: that takes effect at the next start, not at a reload")


def _settle_memory() -> None:
    """Keep the garbage collector of the workers off the policy, so that they go on sharing its memory after the fork."""
    # What was frozen for an earlier plan may be garbage by now.
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _allow_many_files() -> None:
    """Raise the limit of open files as far as we may: each connection takes one, and libmilter spins when there are no more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
