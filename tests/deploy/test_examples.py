"""The files of deploy/: what they tell an MTA is what the doctor wants, and the containers' files hold together."""

import re
from pathlib import Path

import pytest

from sidecar.commands.doctor.postfix_checks import check_postfix
from sidecar.commands.export.lists import postfix_relay_domains
from sidecar.config import load
from sidecar.core.open_domains import POSTFIX_FILE, OpenDomains
from sidecar.core.settings.values import Settings
from tests import ROOT

DEPLOY = ROOT / "deploy"
DOCKER = DEPLOY / "docker"


def loaded(path: Path) -> Settings:
    """Load settings that have nothing wrong with them."""
    found = load(path)
    assert found.problems == ()
    assert found.settings is not None
    return found.settings


@pytest.mark.parametrize(
    ("main", "config", "exported"),
    [
        ("postfix/main.inet.cf", "postfix/sidecar.inet.toml", POSTFIX_FILE),
        ("postfix/main.unix.cf", "postfix/sidecar.unix.toml", POSTFIX_FILE),
        ("docker/main.cf", "docker/etc/sidecar.toml", "/etc/postfix/exported/relay-domains"),
    ],
)
@pytest.mark.parametrize("master", ["", "smtp inet n - y - - smtpd\n", "smtp inet n - n - - smtpd\n"])
def test_postfix(main: str, config: str, exported: str, master: str) -> None:
    """With the lines to paste, the doctor has nothing to say, in a chroot and outside of one."""
    settings = loaded(DEPLOY / config)
    text = (DEPLOY / main).read_text() + "mydestination =\n" + master
    assert check_postfix(text, settings, {exported: postfix_relay_domains(OpenDomains(settings)).text}) == []


def test_sendmail_settings() -> None:
    """The settings to paste for Sendmail are right as they stand."""
    loaded(DEPLOY / "sendmail" / "sidecar.toml")


def test_examples_are_one() -> None:
    """The listener domains that stand as an example are the same everywhere."""
    assert len({path.read_text() for path in DEPLOY.rglob("listener_domains.toml")}) == 1


def test_dockerfile() -> None:
    """Every base is pinned by tag, and everything that is copied is there and let through to the engine."""
    text = (DOCKER / "Dockerfile").read_text()
    stages = re.findall(r"(?m)^FROM (\S+) AS (\S+)$", text)
    assert len(stages) == len(re.findall(r"(?m)^FROM", text)) == 3
    assert {base for base, _ in stages} == {"debian:12-slim"}
    allowed = {
        line.removeprefix("!") for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"
    }
    for line in re.findall(r"(?m)^COPY (?!--from)(.+)$", text):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source in allowed


def test_compose() -> None:
    """What compose.yaml names is there: the build stages, the folders, the volumes."""
    text = (DOCKER / "compose.yaml").read_text()
    stages = set(re.findall(r"(?m)^FROM \S+ AS (\S+)$", (DOCKER / "Dockerfile").read_text()))
    assert set(re.findall(r"target: (\S+)", text)) <= stages
    assert (DOCKER / re.findall(r"context: (\S+)", text)[0]).resolve() == ROOT
    assert set(re.findall(r"dockerfile: (\S+)", text)) == {"deploy/docker/Dockerfile"}
    assert all((DOCKER / path).is_dir() for path in re.findall(r"- (\./[^:]+):", text))
    declared = set(re.findall(r"(?m)^  (\S+):$", text[text.index("\nvolumes:") :]))
    assert set(re.findall(r"- ([a-z][a-z-]*):/", text)) == declared
