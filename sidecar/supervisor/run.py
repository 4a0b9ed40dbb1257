"""The way into this room: from settings to a serving supervisor, and from a file that changed to the next plan.

Owns start and reload. Never waits for anything; the supervisor does.
"""

import gc
import resource
from pathlib import Path

from sidecar import log
from sidecar.milter import ListenError, listen
from sidecar.settings import load
from sidecar.settings.values import Settings
from sidecar.supervisor.plan import Plan, PlanError, make_plan
from sidecar.supervisor.supervisor import Supervisor

_LOG = log.get("supervisor")


def run(config: Path | None, settings: Settings) -> int:
    """Serve with these settings, loaded from `config`, until told to stop; give the exit status. SIGHUP loads anew."""
    try:
        plan = make_plan(settings)
        listener = listen(settings.milter)
    except (PlanError, ListenError) as error:
        _LOG.error(str(error))
        return 1
    _settle_memory()
    _allow_many_files()
    return Supervisor(listener=listener, plan=plan, replan=lambda old: _replan(config, old)).run()


def _replan(config: Path | None, old: Plan) -> Plan | None:
    """Load the settings anew; None, with every problem in the log, when they have errors."""
    loaded = load(config)
    for problem in loaded.problems:
        tell = _LOG.error if problem.severity == "error" else _LOG.warning
        tell(problem.text, mend=problem.mend, where=str(problem.where), key=problem.where and problem.where.key)
    if loaded.settings is None:
        return None
    try:
        plan = make_plan(loaded.settings)
    except PlanError as error:
        _LOG.error(str(error))
        return None
    log.configure(level=plan.settings.log.level, format=plan.settings.log.format)
    _warn_of_socket(old.settings, plan.settings)
    _settle_memory()
    return plan


def _warn_of_socket(old: Settings, new: Settings) -> None:
    for name in ("socket", "socket_mode", "socket_owner", "socket_group"):
        if getattr(old.milter, name) != getattr(new.milter, name):
            _LOG.warning(f"milter.{name} has changed: that takes effect at the next start, not at a reload")


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
