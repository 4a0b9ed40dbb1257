"""The Debian package and the wheel in a Debian 12: install, upgrade from the previous build, run, remove, purge.

`make test-packages` runs it. pytest does not collect it by itself.
"""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT
from tests.deploy.documents import FOLDER as DOCUMENTS
from tests.deploy.documents import Document
from tests.mta.processes import wait_until
from tests.packages.conftest import PREVIOUS, VERSION, build
from tests.packages.machine import FOLDER, Machine
from tests.wire.client import CONTINUE, DISCARD, Mta

SETTINGS = "/etc/sidecar/sidecar.toml"
DOMAINS = "/etc/sidecar/listener_domains.toml"
JOURNAL = "/var/lib/sidecar/journal"
SOCKET = "/run/sidecar/sidecar.sock"
REPORT = (ROOT / "sidecar/commands/simulate/catalogue/postfix.eml").read_bytes().replace(b"\n", b"\r\n")
OWN_SETTINGS = f"""\
# our own
listener_domains = ["listener_domains.toml"]
bounce_classifier = ["iana"]
[milter]
socket = "unix:{SOCKET}"
"""
OWN_DOMAINS = '["bounce.example.com"]\nlog_oob = "LogThenDrop"\n'


def state(debian: Machine) -> str:
    """Return what systemd says of the service in one word."""
    return debian.run("systemctl", "show", "--property=ActiveState", "--value", "sidecar").strip()


def workers(debian: Machine) -> set[int]:
    """Return the process ids of the workers that serve."""
    answer = json.loads(debian.run("sh", "-c", f"sidecar status --config {SETTINGS} --json || true"))
    return {worker["pid"] for worker in answer["status"]["workers"] if worker["ready"] and not worker["retiring"]}


def log(debian: Machine) -> str:
    return debian.run("journalctl", "--no-pager", "--output=cat", "--unit=sidecar")


def bounce(debian: Machine) -> None:
    """Be an MTA, to which an external host sends a bounce and a message that is none."""
    with Mta(str(debian.path(SOCKET))) as mta:
        mta.negotiate()
        mta.connect()
        mta.helo()
        assert mta.envelope(b"<>", b"<news-17@bounce.example.com>") == [CONTINUE]
        assert mta.content(REPORT) == (DISCARD, [])
        assert mta.envelope(b"<a@example.net>", b"<b@example.org>")[0].text.startswith("550 5.7.1 relaying not permitted")


def bounces(debian: Machine) -> int:
    """Return how many such bounces and other messages have their records."""
    lines = [line for path in debian.path(JOURNAL).iterdir() for line in path.read_text().splitlines()]
    counts = Counter(json.loads(line)["type"] for line in lines)
    assert set(counts) == {"OOB", "Reception", "Rejection"}
    assert len(set(counts.values())) == 1
    return counts["OOB"]


def configure(debian: Machine) -> None:
    """Do what an operator does after the installation."""
    debian.path(DOMAINS).write_text(OWN_DOMAINS)
    debian.path(SETTINGS).write_text(OWN_SETTINGS)
    debian.run("sidecar", "check", "--config", SETTINGS)
    debian.run("systemctl", "restart", "sidecar")


def test_without_systemd(debian: Machine, package: Path) -> None:
    """In a container: everything is there and works, and nothing is started. Removal and purge leave what they must."""
    output = debian.install(package)
    assert "sidecar check && systemctl restart sidecar" in output
    assert debian.run("sidecar", "--version") == f"sidecar, version {VERSION}\n"
    assert "The settings are valid" in debian.run("sidecar", "check", "--config", SETTINGS)
    assert debian.run("stat", "--format=%U:%G %a", "/var/lib/sidecar") == "sidecar:sidecar 750\n"
    assert debian.path("/etc/systemd/system/multi-user.target.wants/sidecar.service").is_symlink()
    files = debian.run("dpkg", "--listfiles", "sidecar").splitlines()
    for source, target in (("man", "man1"), ("man5", "man5")):
        pages = {path.name for path in (ROOT / "deploy" / source).iterdir()}
        assert {Path(name).name.removesuffix(".gz") for name in files if name.startswith(f"/usr/share/man/{target}/")} == pages
    for name in (
        "bash-completion/completions/sidecar",
        "zsh/vendor-completions/_sidecar",
        "fish/vendor_completions.d/sidecar.fish",
    ):
        assert f"/usr/share/{name}" in files
    assert debian.run("dpkg", "--verify", "sidecar") == ""
    # Nothing that another Python on this machine has gets into the program, and its user cannot change it.
    debian.run("runuser", "-u", "sidecar", "--", "env", "PYTHONPATH=/nowhere", "sidecar", "check", "--config", SETTINGS)
    debian.path("/var/lib/sidecar/journal").mkdir()
    debian.path("/var/lib/sidecar/journal/segment").write_text("{}\n")
    debian.run("dpkg", "--remove", "sidecar")
    assert not debian.path("/usr/lib/sidecar").exists()
    assert debian.path(JOURNAL + "/segment").exists()
    assert debian.path(SETTINGS).exists()
    debian.run("dpkg", "--purge", "sidecar")
    assert [name for name in ("/var/lib/sidecar", "/etc/sidecar", "/usr/share/doc/sidecar") if debian.path(name).exists()] == []
    assert not debian.path("/etc/systemd/system/multi-user.target.wants/sidecar.service").is_symlink()
    debian.run("id", "sidecar")


def test_the_service(debian: Machine, previous: Path, package: Path) -> None:
    """From the installation to the purge, with an upgrade in between, under systemd and in its sandbox."""
    debian.boot()
    debian.install(previous)
    # As it is shipped it runs, and rejects.
    assert state(debian) == "active"
    assert "0 listener domains" in debian.run("systemctl", "status", "--no-pager", "sidecar")
    configure(debian)
    bounce(debian)
    assert PREVIOUS in debian.run("sidecar", "status", "--config", SETTINGS)
    assert bounces(debian) == 1
    # The package has libmilter's binding.
    own = OWN_SETTINGS + 'engine = "libmilter"\n'
    debian.path(SETTINGS).write_text(own)
    debian.run("systemctl", "reload", "sidecar")
    wait_until(lambda: '"reloaded"' in log(debian), "it has reloaded")
    bounce(debian)
    loads = log(debian).count("loading the settings again")
    # The upgrade replaces the rules for bounces, which the old version has read. It must not load them, but be restarted.
    debian.install(package)
    wait_until(lambda: state(debian) == "active", "the new version runs")
    assert f"version {VERSION}" in debian.run("sidecar", "status", "--config", SETTINGS)
    text = log(debian)
    assert (text.count('"ready"'), text.count("loading the settings again"), text.count('"error"')) == (3, loads, 0)
    assert debian.path(SETTINGS).read_text() == own
    assert debian.path(DOMAINS).read_text() == OWN_DOMAINS
    bounce(debian)
    assert bounces(debian) == 3
    assert debian.run("dpkg", "--verify", "sidecar").split() == ["??5??????", "c", DOMAINS, "??5??????", "c", SETTINGS]
    debian.run("apt-get", "remove", "--yes", "sidecar")
    assert state(debian) == "inactive"
    assert bounces(debian) == 3
    # Installed again it begins where it was, with the settings and the journal.
    debian.install(package)
    bounce(debian)
    assert bounces(debian) == 4
    debian.run("apt-get", "purge", "--yes", "sidecar")
    assert (state(debian), debian.path("/var/lib/sidecar").exists(), debian.path("/etc/sidecar").exists()) == (
        "inactive",
        False,
        False,
    )


def test_invalid_settings(debian: Machine, previous: Path, package: Path) -> None:
    """They fail no installation. An old version keeps running; the new one says why it does not start, and starts later."""
    debian.boot()
    folder = debian.path("/etc/sidecar")
    folder.mkdir()
    debian.path(SETTINGS).write_text("relay_host = []\n")
    output = debian.install(previous)
    assert (state(debian), "Write relay_hosts" in output, "has not been started" in output) == ("inactive", True, True)
    configure(debian)
    debian.path(SETTINGS).write_text("relay_host = []\n" + OWN_SETTINGS)
    output = debian.install(package)
    assert ("Write relay_hosts" in output, "old version keeps running" in output) == (True, True)
    assert f"version {PREVIOUS}" in debian.run("sidecar", "status", "--config", SETTINGS, status=1)
    bounce(debian)
    # A worker that dies is replaced, although the old version's files are gone.
    old = workers(debian)
    debian.run("kill", "-KILL", *map(str, old))
    wait_until(lambda: len(workers(debian) - old) == len(old) == 2, "the workers are new")
    wait_until(lambda: "2 of 2 workers" in debian.run("sidecar", "status", "--config", SETTINGS, status=1), "they serve")
    bounce(debian)
    debian.run("systemctl", "restart", "sidecar", status=1)
    status = ("systemctl", "status", "--no-pager", "--full", "sidecar")
    wait_until(lambda: "Write relay_hosts" in debian.run(*status, status=3), "its status has the reason")
    debian.path(SETTINGS).write_text(OWN_SETTINGS)
    wait_until(lambda: state(debian) == "active", "systemd has started it again")
    assert f"version {VERSION}" in debian.run("sidecar", "status", "--config", SETTINGS)


@pytest.fixture(scope="session")
def wheels() -> Iterator[Path]:
    """The wheels of all dependencies, by hash, without pymilter and nkeys: they have none, and only extras need them."""
    folder = FOLDER / "wheels"
    shutil.rmtree(folder, ignore_errors=True)
    pins = (ROOT / ".ci/program.txt").read_text()
    requirements = FOLDER / "wheels.txt"
    requirements.write_text(re.sub(r"(?m)^(?:pymilter|nkeys)==.*\n(?: .*\n)*", "", pins))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps", "--only-binary=:all:"]
    target = ["--python-version=3.11", "--implementation=cp", "--abi=cp311", "--abi=abi3", "--abi=none"]
    platforms = [f"--platform={name}_x86_64" for name in ("manylinux2014", "manylinux_2_28", "manylinux_2_17")]
    subprocess.run([*command, *target, *platforms, "--requirement", requirements, "--dest", folder], check=True)
    yield folder
    requirements.unlink()
    shutil.rmtree(folder)


def test_pipx(debian: Machine, wheel: Path, wheels: Path) -> None:
    """The wheel gives a working program, with man pages and completions, on a machine without a compiler."""
    assert not debian.succeeds("sh", "-c", "command -v cc gcc")
    shutil.copytree(wheels, debian.path("/root/wheels"))
    for folder in ("dist", "systemd"):
        debian.path(f"/root/{folder}").mkdir()
    shutil.copy(wheel, debian.path("/root/dist"))
    shutil.copytree(ROOT / "systemd", debian.path("/root/systemd"), dirs_exist_ok=True)
    debian.boot()
    (fence,) = (one for one in Document(DOCUMENTS / "operations.md").fences() if "pipx" in one.words)
    script = fence.text.removeprefix("make dist\n")
    environ = "PATH=/usr/local/bin:$PATH PIP_NO_INDEX=1 PIP_FIND_LINKS=/root/wheels"
    assert "2 of 2 workers serve" in debian.run("bash", "-c", f"set -eu; cd /root; export {environ}\n{script}")
    debian.run("systemctl", "stop", "sidecar")
    environment = "/opt/pipx/venvs/sidecar"
    for path in (
        "man/man1/sidecar.1",
        "bash-completion/completions/sidecar",
        "zsh/site-functions/_sidecar",
        "doc/sidecar/examples/sidecar.toml",
    ):
        assert debian.path(f"{environment}/share/{path}").exists()
    sidecar = "/usr/local/bin/sidecar"
    assert debian.run(sidecar, "--version") == f"sidecar, version {VERSION}\n"
    own = 'state_directory = "/root/state"\n[milter]\nsocket = "unix:/root/sock"\n'
    debian.path("/root/direct.toml").write_text(own)
    debian.path("/root/libmilter.toml").write_text(f'{own}engine = "libmilter"\n')
    assert "The settings are valid" in debian.run(sidecar, "check", "--config", "/root/direct.toml")
    assert "needs pymilter" in debian.run(sidecar, "check", "--config", "/root/libmilter.toml")
    output = debian.run(sidecar, "run", "--config", "/root/libmilter.toml", status=1)
    assert 'write engine = \\"direct\\" below [milter], or install the extra sidecar[libmilter]' in output
    # It serves, and ends when it is told to.
    script = f"{sidecar} run --config /root/direct.toml & until test -S /root/sock; do sleep 0.1; done; kill $!; wait $!"
    assert '"stopped' in debian.run("sh", "-c", script)


def test_the_same_sources_give_the_same_bytes(built: tuple[Path, Path], tmp_path: Path) -> None:
    _, again = build(ROOT, tmp_path / "again")
    assert again.read_bytes() == built[1].read_bytes()
