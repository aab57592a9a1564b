"""What ended a measurement, as an error of ours: the message for the user, the traceback in a log file, no tensors."""

from __future__ import annotations

import gc
import sys
import traceback
from pathlib import Path

from ..checkpoints.quiet import first_line
from ..errors import MeasureError, TuneshiftError
from ..files import publish
from ..store.files import LOGS
from .plan import Task


def failure_log(task: Task, store: Path) -> Path:
    """Where the traceback of a task's failure lies: one file a key, gone once the task succeeds."""
    return store / LOGS / f"{task.measure.name}-{task.key.digest[:12]}.log"


def measure_failure(error: Exception, task: Task, store: Path) -> TuneshiftError:
    """The error to keep for a task: our own as it is, any other as a MeasureError that names the log of its traceback.

    Neither holds on to a frame: the activations of the pass that failed would stay in memory for the rest of the run.
    """
    if isinstance(error, TuneshiftError):
        kept: TuneshiftError = error
    else:
        where = _logged(error, task, store)
        kept = MeasureError(f"{task.measure.name} of {task.ref.name} on {task.on} failed: {first_line(error)}. {where}")
    _let_go_(error)
    return kept


def free_memory() -> None:
    """Give back what a failed pass held, as far as the device still answers."""
    gc.collect()
    if "torch" not in sys.modules:
        return
    from ..checkpoints.memory import empty_cache

    try:
        empty_cache()
    except RuntimeError:
        # After a failed assertion on a GPU every later call fails in this process, each task with a message of its own.
        return


def _logged(error: Exception, task: Task, store: Path) -> str:
    """Where the traceback was written, or why it was not and where the error came from."""
    path = failure_log(task, store)
    lines = traceback.format_exception(error)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        publish(path, "".join(lines).encode(errors="replace"))
    except OSError as refused:
        last = traceback.extract_tb(error.__traceback__)[-1:]
        at = "".join(f" It was raised in {frame.filename}, line {frame.lineno}." for frame in last)
        return f"Its traceback could not be written to {path} ({refused.strerror or refused}).{at}"
    return f"Its traceback is in {path}."


def _let_go_(error: BaseException) -> None:
    """Drop the frames of an error and of all that it was raised from."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        waiting += [one.__cause__, one.__context__]
        traceback.clear_frames(one.__traceback__)
        one.__traceback__ = one.__cause__ = one.__context__ = None
