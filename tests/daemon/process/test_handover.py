"""Loaded settings as memory: any number of processes read it, whole or not at all, and it is closed in the end."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sidecar.config import load
from sidecar.daemon.process.child import control_pair, receive_order, receive_word, send, send_plan
from sidecar.daemon.process.loader import Loader
from sidecar.daemon.process.plan import Handover
from tests.daemon.process.test_loader import config
from tests.daemon.process.test_retiring import descriptors
from tests.daemon.process.test_running import reload
from tests.mta.processes import wait_until
from tests.wire.program import DOMAINS, Program


def loaded(path: Path) -> Handover:
    """Load settings as the program does, and keep their memory only."""
    loader = Loader(path)
    loader.wait()
    handover = loader.take_handover()
    assert len(handover.descriptors) == 2
    assert loader.take_handover().descriptors == ()
    loader.kill()
    loader.reap()
    return handover


def test_any_number_read_it_at_the_same_time(tmp_path: Path) -> None:
    """They share the position in the file, which must not matter."""
    handover = loaded(config(tmp_path))
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: handover.read(), range(64)))
    finally:
        sys.setswitchinterval(usual)
    expected = load(tmp_path / "sidecar.toml").settings
    assert all(one.settings == expected for one in found)
    handover.close()
    handover.close()


def test_it_is_passed_on_as_descriptors_of_the_receivers_own(tmp_path: Path) -> None:
    ours, theirs = control_pair()
    with ours, theirs:
        handover = loaded(config(tmp_path))
        send_plan(ours, handover)
        send(ours, "ping")
        handover.close()
        received = receive_order(theirs)
        assert isinstance(received, Handover)
        assert received.read().settings == load(tmp_path / "sidecar.toml").settings
        received.close()
        assert receive_order(theirs) == "ping"
        send(theirs, "applied")
        assert receive_word(ours) == "applied"


@pytest.mark.parametrize("count", [0, 1])
def test_with_fewer_descriptors_than_were_passed_nothing_is_read(tmp_path: Path, count: int) -> None:
    """As if the receiver may open no more of them."""
    handover = loaded(config(tmp_path))
    with pytest.raises(ValueError, match="not enough values"):
        Handover(handover.descriptors[:count]).read()
    handover.close()


@pytest.mark.parametrize("domains", [DOMAINS, '["a.com"]\nrelay_too = true\n'])
def test_a_loader_that_is_reaped_closes_what_was_not_taken(tmp_path: Path, domains: str) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names, not paths
    loader = Loader(config(tmp_path, domains))
    settings = loader.wait().settings
    loader.kill()
    loader.reap()
    del settings
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - names, not paths


def test_reloads_that_fail_leave_no_descriptors() -> None:
    """By settings that are wrong, and by a plan that cannot work."""
    with Program() as program:
        opened = len(descriptors(program.pid))
        for number in range(6):
            program.settings = "" if number % 2 else f'[journal]\ndirectory = "{program.path}/impossible"\n'
            program.write(domains=f'["a.example"]\nrelay_too = {number}\n' if number % 2 else DOMAINS)
            reload(program, "the reload failed")
        wait_until(lambda: len(descriptors(program.pid)) <= opened, "the supervisor has no more descriptors than before")
        assert program.stop() == 0
