"""What every test run needs: a temporary directory, whether a real MTA can run here, and how property tests search."""

import gc
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from sidecar import log
from tests import preloaded
from tests.forked import Forks, forks
from tests.mta.places import RUN_DIRECTORY

# A red run must be a fault of the change: the same examples each time, and no limit on wall time, which a busy machine exceeds.
# HYPOTHESIS_PROFILE=search looks for new examples, SEARCH_FACTOR times as many, in an order that depends on the seed.
hypothesis_settings.register_profile("fixed", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "fixed")
SEARCH_FACTOR = int(os.environ.get("SEARCH_FACTOR", "10"))
FIXED_DIVISOR = 3
"""A fixed run tries this part of the examples that a test names: they are the same each time. `make fuzz` tries more."""
FACTOR = SEARCH_FACTOR if PROFILE == "search" else 1 / FIXED_DIVISOR
hypothesis_settings.load_profile(PROFILE)

# A shell that runs a job in the background has it ignore Ctrl-C, and every program that a test starts would ignore it too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Nothing that is collected is garbage, and each look at ten thousand tests takes longer than most of them.
gc.disable()

STARTS_DAEMON = {"tests.wire.program", "tests.daemon.process.starting"}
"""A module that imports something of these starts the whole program."""

LONG = (
    "test_fuzz.py",
    "test_cli.py",
    "test_faults.py",
    "test_soak.py",
    "test_cost.py",
    "test_small_disk.py",
    "test_open_relay.py",
    "test_browser.py",
    "test_shipper.py",
    "test_conftest.py",
    "test_running.py",
    "test_building.py",
    "test_unit.py",
    "test_built.py",
)
"""The files that take longest. They come first, so that no worker begins one when the others are almost finished."""

FAULTS = pytest.StashKey[list[str]]()
"""What the tests left in the temporary directory, and those that did not run."""

FINISHED = set[str]()
"""The tests that this process, or a worker of xdist for it, has finished."""


QUICK = "--quick"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of `make check`."""
    parser.addoption(QUICK, action="store_true", help="skip each test that starts another program, as soon as it does")


def skip_programs(event: str, arguments: tuple[object, ...]) -> None:
    """Skip the test that starts another program. An audit hook: no list of such tests can be out of date."""
    if event == "subprocess.Popen" and os.environ.get("PYTEST_CURRENT_TEST"):
        pytest.skip(f"it starts another program, {arguments[0]}")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Make the temporary directory of this run: everything that a test or one of its programs leaves is in there."""
    if config.getoption(QUICK):
        sys.addaudithook(skip_programs)
    os.environ[preloaded.USER] = str(os.getpid())
    if hasattr(config, "workerinput"):
        return  # a worker of xdist, which has the directory of its controller
    # In /tmp, since the path of a UNIX socket must be short, and open to user postfix.
    directory = Path(tempfile.mkdtemp(prefix="sidecar-tests-", dir="/tmp"))
    directory.chmod(0o755)
    os.environ["TMPDIR"] = os.environ[RUN_DIRECTORY] = str(directory)
    tempfile.tempdir = None
    config.option.basetemp = config.option.basetemp or directory / "pytest"
    # A run that is terminated ends like one that is interrupted.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End the process that starts programs. Remove the temporary directory of this run, however it ended."""
    preloaded.stop()
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ[RUN_DIRECTORY])


def pytest_runtest_logfinish(nodeid: str) -> None:
    """Note the test."""
    FINISHED.add(nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run whose tests left something behind beside pytest's own directory, or in which a test was lost."""
    if hasattr(session.config, "workerinput"):
        return
    left = {path.name for path in Path(os.environ[RUN_DIRECTORY]).iterdir()} - {"pytest"}
    faults = [f"A test did not remove {name} from the temporary directory." for name in sorted(left)]
    if session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED} and not session.config.getoption("maxfail"):
        faults += [f"{name} did not run." for name in sorted(wanted(session) - FINISHED)]
    if faults:
        session.config.stash[FAULTS] = faults
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def wanted(session: pytest.Session) -> set[str]:
    """Return the tests of a run. With xdist its workers collect them."""
    if session.config.getoption("collectonly"):
        return set()
    spread = session.config.pluginmanager.getplugin("dsession")
    return {item.nodeid for item in session.items} if spread is None else {*(spread.sched.collection or ())}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name what the tests left behind, and those that were lost."""
    for fault in config.stash.get(FAULTS, []):
        terminalreporter.write_line(fault, red=True)


@pytest.fixture(autouse=True)
def _default_log() -> None:
    """Configure the log as an import does: a test that changes it must not silence the next one."""
    log.configure(level="warning")


@pytest.fixture(scope="session")
def loaded() -> Iterator[Forks]:
    """Load all commands once, in a process that runs each call in a fork."""
    with forks("tests.forked") as one:
        yield one


@pytest.fixture(scope="session")
def examples() -> Callable[[int], int]:
    """Return how many examples this run tries of so many, for a test that makes property tests itself."""
    return scaled


def pytest_collection_finish() -> None:
    """Let the garbage collector look only at what the tests make. A full look at all modules and tests takes 0.2 seconds."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the tests. Mark those that start the program. Skip those that need Postfix where it cannot run; never in CI."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))
    scale_examples(items)
    if PROFILE == "search" and (seed := config.getoption("hypothesis_seed")) is not None:
        random.Random(seed).shuffle(items)  # noqa: S311 - no secret
    missing = "is not run by root" if os.geteuid() else "has no Postfix" if shutil.which("postfix") is None else None
    for item in items:
        if item.get_closest_marker("mta") and missing and not os.environ.get("CI"):
            item.add_marker(pytest.mark.skip(reason=f"a real MTA is needed, and this test run {missing}"))
        if isinstance(item, pytest.Function) and starts_daemon(item.module):
            item.add_marker("daemon")


@cache
def starts_daemon(module: ModuleType) -> bool:
    """Return True if a module of tests imports what starts the whole program."""
    return any(getattr(value, "__module__", "") in STARTS_DAEMON for value in vars(module).values())


def scaled(number: int) -> int:
    """Return how many examples this run tries of those that a test names."""
    return max(1, round(number * FACTOR))


def scale_examples(items: list[pytest.Item]) -> None:
    """Multiply the number of examples that each property test tries."""
    for test in {item.obj for item in items if isinstance(item, pytest.Function)}:
        own: hypothesis_settings | None = getattr(test, "_hypothesis_internal_use_settings", None)
        if own is None:
            continue
        wanted = hypothesis_settings(own, max_examples=scaled(own.max_examples), derandomize=PROFILE == "fixed")
        test._hypothesis_internal_use_settings = wanted
