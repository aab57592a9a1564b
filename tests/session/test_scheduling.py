"""The xdist scheduler: pairs stay together, a dead worker's claims go on, nothing waits for ever."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("xdist", reason="pytest-xdist is not installed")

from tuneshift.session import scheduling
from tuneshift.session.scheduling import CheckpointScheduling, pin_devices, visible_devices

TESTS = [f"suites/t.py::test_{k}[pair:{pair}]" for k in "abc" for pair in ("one", "two")]


class Worker:
    """What the scheduler sees of a worker: it notes what it is sent."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.sent: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:
        self.sent += indices

    def shutdown(self) -> None:
        self.shutting_down = True


@pytest.fixture
def scheduler(pytestconfig):
    option = SimpleNamespace(loadscopereorder=False)
    config = SimpleNamespace(option=option, getvalue=lambda name: ["popen", "popen"] if name == "tx" else None)
    return CheckpointScheduling(config)


def started(scheduler, tests=TESTS) -> tuple[Worker, Worker]:
    workers = (Worker("gw0"), Worker("gw1"))
    for worker in workers:
        scheduler.add_node(worker)
    for worker in workers:
        scheduler.add_node_collection(worker, tests)
    scheduler.schedule()
    return workers


def run(scheduler, worker, count=None) -> None:
    for index in worker.sent[:count]:
        scheduler.mark_test_complete(worker, index)
    worker.sent = worker.sent[count:] if count else []


def test_a_pairs_tests_go_to_one_worker(scheduler):
    workers = started(scheduler)
    pairs = [{TESTS[i].split("pair:")[1] for i in w.sent} for w in workers]
    assert sorted(map(tuple, pairs)) == [("one]",), ("two]",)]


def test_tests_without_a_pair_group_by_file(scheduler):
    assert scheduler._split_scope("tests/test_x.py::test_a[1]") == "tests/test_x.py"
    assert scheduler._split_scope("s.py::test_a[pair:llama-vicuna,set,group]") == "pair:llama-vicuna"


def test_what_a_dead_worker_left_is_queued_again_without_the_test_it_died_in(scheduler):
    first, second = started(scheduler)
    indices = list(first.sent)
    run(scheduler, first, 1)
    crashed = scheduler.remove_node(first)
    assert crashed == TESTS[indices[1]]
    left = {nodeid for unit in scheduler.workqueue.values() for nodeid in unit}
    assert left == {TESTS[i] for i in indices[2:]}
    replacement = Worker("gw2")
    scheduler.add_node(replacement)
    scheduler.add_node_collection(replacement, TESTS)
    scheduler.schedule()
    assert replacement.sent == indices[2:]
    assert replacement.shutting_down  # it knows that nothing follows, so it runs its last test
    run(scheduler, replacement)
    run(scheduler, second)
    assert scheduler.tests_finished


def test_a_finished_unit_is_not_queued_again(scheduler):
    first, _ = started(scheduler)
    run(scheduler, first)
    assert scheduler.remove_node(first) is None
    assert not scheduler.workqueue


def test_a_lone_worker_with_single_test_units_never_waits(scheduler):
    tests = [f"t.py::test[pair:{k}]" for k in "abcde"]
    first, second = started(scheduler, tests)
    scheduler.remove_node(second)
    ran = 0
    while first.sent and (len(first.sent) > 1 or first.shutting_down):
        run(scheduler, first, 1)
        ran += 1
    assert not scheduler.workqueue
    assert ran == 4  # all but the test that the second died in


def test_each_worker_gets_a_gpu_and_keeps_the_users_choice():
    specs = [SimpleNamespace(env={}) for _ in range(3)] + [SimpleNamespace(env={"CUDA_VISIBLE_DEVICES": "7"})]
    pin_devices(specs, ("0", "1"))
    assert [s.env["CUDA_VISIBLE_DEVICES"] for s in specs] == ["0", "1", "0", "7"]
    plain = SimpleNamespace(env={})
    pin_devices([plain], ())
    assert plain.env == {}


def test_visible_devices_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-abc")
    assert visible_devices() == ("2", "GPU-abc")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert visible_devices() == ()


def test_without_a_driver_the_controller_does_not_load_torch_to_count_its_devices(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(scheduling, "has_driver", lambda: False)
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it would raise
    assert visible_devices() == ()


def test_with_a_driver_torch_counts(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(scheduling, "has_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert visible_devices() == ("0", "1", "2")


@pytest.mark.parametrize("there", [False, True])
def test_a_driver_is_one_whose_library_loads(monkeypatch, there):
    def load(name):
        if not there:
            raise OSError(name)

    monkeypatch.setattr(scheduling.os.path, "exists", lambda path: False)
    monkeypatch.setattr(scheduling.ctypes, "CDLL", load)
    assert scheduling.has_driver() is there
