"""How xdist hands claims to workers: all of a pair's to one worker, and nothing lost or stuck when a worker dies.

Imported only where xdist runs. xdist 3.8's own scope schedulers do not fit: ``loadgroup`` ignores groups under pytest
9.2, and after a crash a finished scope is queued again as an empty unit, which no worker ever reports.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import execnet
    from xdist.workermanage import WorkerController

PAIR = re.compile(r"\[.*?pair:([^\],]+)")


class CheckpointScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Load scheduling with one work unit per pair, so that a worker reuses the evidence that it has in memory.

    Tests that belong to no pair form one unit a file.
    """

    def _split_scope(self, nodeid: str) -> str:
        pair = PAIR.search(nodeid)
        return f"pair:{pair.group(1)}" if pair else nodeid.split("::", 1)[0]

    def remove_node(self, node: WorkerController) -> str | None:
        """Take a worker out and queue again what it left unfinished. Returns the test that it died in, if any.

        That test is reported as failed and not run again: it may be what kills workers.
        """
        workload = self.assigned_work.pop(node)
        left = {
            scope: {nodeid: False for nodeid, completed in unit.items() if not completed}
            for scope, unit in workload.items()
        }
        crashed = next((nodeid for unit in left.values() for nodeid in unit), None)
        for scope, unit in left.items():
            unit.pop(crashed or "", None)
            if unit:
                self.workqueue[scope] = unit
        for other in self.assigned_work:
            self._reschedule(other)
        return crashed

    def _reschedule(self, node: WorkerController) -> None:
        # A worker starts a test only when it knows the next one or that there is none: one alone would wait forever.
        if node.shutting_down or node not in self.registered_collections:
            return
        while self.workqueue and self._pending_of(self.assigned_work[node]) < 2:
            self._assign_work_unit(node)
        if not self.workqueue:
            node.shutdown()


def pin_devices(specs: Sequence[execnet.XSpec], devices: Sequence[str]) -> None:
    """Give each worker one GPU, in turn, through its environment. By spec and not by worker number, which a
    replacement changes."""
    for index, spec in enumerate(specs):
        if devices:
            spec.env.setdefault("CUDA_VISIBLE_DEVICES", devices[index % len(devices)])


def visible_devices() -> tuple[str, ...]:
    """CUDA devices that this process may use, by the names its environment gives them; torch is asked only where it
    names none and a driver is there."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(name.strip() for name in named.split(",") if name.strip() not in ("", "-1"))
    if not has_driver():
        return ()
    import torch

    return tuple(str(i) for i in range(torch.cuda.device_count()))


def has_driver() -> bool:
    """Whether a GPU's driver is there: NVIDIA's library, or the device file of AMD's, which torch calls CUDA too.

    Two seconds cheaper than torch, which the process that hands out tests needs for nothing else.
    """
    if os.path.exists("/dev/kfd"):
        return True
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True
