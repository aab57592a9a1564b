"""A line a minute while a test decides: a judge that it asks may take long, and pytest shows a test when it ends."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import TextIO

from ..engine.progress import Bars, lines_through, silent_bars


def lines_past_capture(stream: TextIO, at_end: Callable[[Callable[[], None]], None]) -> Bars:
    """Lines on a stream that pytest will capture while tests run; nothing on a terminal, where dots show that it lives.

    ``at_end`` takes what closes the copy of the stream's file that is written to, for the end of the run.
    """
    if not os.environ.get("CI") and stream.isatty():
        return silent_bars
    try:
        file = os.dup(stream.fileno())
    except (OSError, ValueError):  # a stream without a file is not captured by its file either
        return lines_through(lambda line: print(f"tuneshift: {line}", file=stream, flush=True))
    at_end(lambda: os.close(file))
    return lines_through(lambda line: _write(file, f"tuneshift: {line}\n"))


def _write(file: int, line: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads any more
        os.write(file, line.encode(errors="replace"))
