"""The units of the guide for maddy, on a real systemd: maddy never runs without the sidecar, and always returns with it.

Owns stand-ins for both services. `make test-packages` runs this file.
"""

from tests import ROOT
from tests.deploy.documents import Document
from tests.mta.processes import wait_until
from tests.packages.machine import Machine, machine

UNITS = "/etc/systemd/system"
SERVICE = "[Service]\nExecStart=/bin/sleep infinity\nRestart={}\nRestartSec=1\n"
GUIDE = ROOT / "deploy" / "maddy" / "README.md"


def write(debian: Machine, path: str, text: str) -> None:
    """Write a file of the machine."""
    file = debian.path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def states(debian: Machine) -> list[str]:
    """Return whether the sidecar and maddy are active, as systemd says."""
    return debian.run("sh", "-c", "systemctl is-active sidecar maddy || true").split()


def processes(debian: Machine) -> set[str]:
    """Return the process ids of both services."""
    return set(debian.run("systemctl", "show", "--property=MainPID", "--value", "sidecar", "maddy").split())


def test_maddy_runs_while_the_sidecar_does() -> None:
    with machine() as debian:
        write(debian, f"{UNITS}/sidecar.service", SERVICE.format("always"))
        write(debian, f"{UNITS}/maddy.service", SERVICE.format("on-failure"))
        files = [fence for fence in Document(GUIDE).fences() if fence.language == "text"]
        assert len(files) == 2
        for fence in files:
            write(debian, fence.words[0], fence.text)
        debian.boot()
        debian.run("systemctl", "start", "maddy")
        assert states(debian) == ["active", "active"]
        before = processes(debian)
        debian.run("systemctl", "kill", "--signal=KILL", "sidecar")
        wait_until(lambda: not before & processes(debian) and states(debian) == ["active", "active"], "both have started again")
        debian.run("systemctl", "stop", "sidecar")
        wait_until(lambda: states(debian) == ["inactive", "inactive"], "both are down")
        debian.run("systemctl", "start", "sidecar")
        wait_until(lambda: states(debian) == ["active", "active"], "both run again")
