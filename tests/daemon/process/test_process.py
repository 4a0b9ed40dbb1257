"""A worker process as its supervisor sees it: the CPU that it gets."""

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from sidecar.core.policy import compile_policy
from sidecar.core.settings.values import MilterSettings
from sidecar.daemon.process.child import control_pair
from sidecar.daemon.process.plan import Plan
from sidecar.daemon.process.workers import Worker, bind_to_cpu, least_used_cpu
from tests.building import settings


def plan(node_id: str = "", *, folder: str = "/var/lib/sidecar", cpu_affinity: bool = True) -> Plan:
    made = replace(settings(), state_directory=Path(folder), milter=MilterSettings(cpu_affinity=cpu_affinity))
    return Plan(settings=made, policy=compile_policy(made), node_id=node_id, revision="", made=0.0)


def chosen(one: Plan, count: int) -> list[int | None]:
    """Return the CPUs of so many workers, one started after the other."""
    ours, theirs = control_pair()
    with ours, theirs:
        workers: list[Worker] = []
        for _ in range(count):
            workers.append(Worker(pid=0, control=ours, plan=one, cpu=least_used_cpu(workers, one)))
    return [worker.cpu for worker in workers]


def test_workers_of_one_instance_have_different_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that are allowed, all before one is taken again."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {1, 3, 5, 7})
    cpus = chosen(plan("a"), 8)
    assert sorted(cpus[:4], key=str) == sorted(cpus[4:], key=str) == [1, 3, 5, 7]


@pytest.mark.parametrize("where", ["node", "folder"])
def test_instances_begin_at_different_cpus(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Containers have the same path each, and instances of one machine may be given the same node id."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))
    plans = [plan(str(number)) if where == "node" else plan(folder=f"/var/lib/{number}") for number in range(200)]
    firsts = [chosen(one, 1)[0] for one in plans]
    # 200 instances on 16 CPUs: 12.5 each.
    assert all(4 <= firsts.count(cpu) <= 26 for cpu in range(16))
    assert firsts == [chosen(one, 1)[0] for one in plans]


def test_without_the_setting_no_worker_is_bound() -> None:
    before = os.sched_getaffinity(0)
    assert chosen(plan(cpu_affinity=False), 3) == [None, None, None]
    bind_to_cpu(None)
    assert os.sched_getaffinity(0) == before
