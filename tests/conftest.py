"""What every test run needs to know: whether this machine can start a real MTA, and how property tests search."""

import os
import shutil
import signal

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from sidecar import log

# A red run must be a fault of the change: the same examples each time, and no limit on wall time, which a busy machine exceeds.
# HYPOTHESIS_PROFILE=search looks for new examples, ten times as many where a test does not name a number.
hypothesis_settings.register_profile("fixed", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.register_profile(
    "search", max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

# A shell that runs a job in the background has it ignore Ctrl-C, and every program that a test starts would ignore it too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _default_log() -> None:
    """Configure the log as an import does: a test that changes it must not silence the next one."""
    log.configure(level="warning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what needs Postfix where it cannot run; never in CI, where everything must be there."""
    missing = "is not run by root" if os.geteuid() else "has no Postfix" if shutil.which("postfix") is None else None
    if missing is None or os.environ.get("CI"):
        return
    for item in items:
        if item.get_closest_marker("mta"):
            item.add_marker(pytest.mark.skip(reason=f"a real MTA is needed, and this test run {missing}"))
