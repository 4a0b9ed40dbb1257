"""The files of deploy/: the doctor accepts the MTAs' settings, and the containers' files are consistent."""

import re
from pathlib import Path

import pytest

from sidecar.commands.doctor.postfix.checks import check_postfix
from sidecar.commands.export import postfix_relay_domains
from sidecar.config import load
from sidecar.core.open_domains import POSTFIX_FILE, OpenDomains
from sidecar.core.settings.settings import Settings
from tests import ROOT

DEPLOY = ROOT / "deploy"
DOCKER = DEPLOY / "docker"


def loaded(path: Path) -> Settings:
    """Return settings that have no finding."""
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
    """The doctor has no finding about the lines to paste, with and without a chroot."""
    settings = loaded(DEPLOY / config)
    text = (DEPLOY / main).read_text() + "mydestination =\n" + master
    assert check_postfix(text, settings, {exported: postfix_relay_domains(OpenDomains(settings), "sidecar export")}.get) == []


def test_sendmail_settings() -> None:
    """The settings to paste for Sendmail have no finding."""
    loaded(DEPLOY / "sendmail" / "sidecar.toml")


def test_examples_are_one() -> None:
    """All examples for MTAs have the same listener domains, except that of maddy, which cannot drop a message."""
    others = {DEPLOY / "etc" / "listener_domains.toml", DEPLOY / "maddy" / "listener_domains.toml"}
    assert len({path.read_text() for path in DEPLOY.rglob("listener_domains.toml") if path not in others}) == 1


def test_dockerfile() -> None:
    """Every base has a tag, and each copied file exists and is not ignored."""
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
    """The build stages, folders and volumes in compose.yaml exist."""
    text = (DOCKER / "compose.yaml").read_text()
    stages = set(re.findall(r"(?m)^FROM \S+ AS (\S+)$", (DOCKER / "Dockerfile").read_text()))
    assert set(re.findall(r"target: (\S+)", text)) <= stages
    assert (DOCKER / re.findall(r"context: (\S+)", text)[0]).resolve() == ROOT
    assert set(re.findall(r"dockerfile: (\S+)", text)) == {"deploy/docker/Dockerfile"}
    assert all((DOCKER / path).is_dir() for path in re.findall(r"- (\./[^:]+):", text))
    declared = set(re.findall(r"(?m)^  (\S+):$", text[text.index("\nvolumes:") :]))
    assert set(re.findall(r"- ([a-z][a-z-]*):/", text)) == declared
