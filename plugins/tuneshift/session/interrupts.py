"""SIGTERM, by which clusters announce that they take the machine, ends a run as SIGINT does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

TERMINATED_CODE = 128 + 15
"""What shells and schedulers make of SIGTERM."""


def on_sigterm(note: Callable[[], object]) -> Callable[[], None] | None:
    """Have SIGTERM call ``note`` and raise KeyboardInterrupt; what puts the old behaviour back.

    None where somebody else handles it, and outside the main thread. A second one ends the process at once.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        return None

    def interrupt(number: int, frame: FrameType | None) -> None:
        note()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise KeyboardInterrupt

    def restore() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, interrupt)
    return restore
