"""Progress of long measuring: a bar on a terminal, a line a minute where there is none."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TextIO

EVERY = 60.0
"""Seconds between two lines of a log. CI services end jobs that are silent for ten minutes."""


class Bar(Protocol):
    """What a progress bar must do; tqdm's does."""

    def update(self, n: int) -> object:
        """Move on by n items."""


Bars = Callable[[str, int, int, str], AbstractContextManager[Bar]]
"""(label, items in all, items already done, what an item is) -> a progress bar for as long as the measuring goes on."""


class SilentBar:
    """The bar of whoever asks for none."""

    def update(self, n: int) -> None:
        """Show nothing."""


@contextmanager
def silent_bars(label: str, total: int, done: int, unit: str) -> Iterator[Bar]:
    """No progress bar."""
    yield SilentBar()


@dataclass(kw_only=True)
class LineBar:
    """Counts items, and says in a line how far it is, or only for how long where no ``total`` is known (0)."""

    label: str
    total: int
    done: int
    unit: str
    started: float = field(default_factory=time.monotonic)
    counted: int = 0
    """Items since it started; ``done`` has those of earlier runs too."""

    def update(self, n: int) -> None:
        """Count n items."""
        self.counted += n
        self.done += n

    def line(self, now: float) -> str:
        """``attribution of base: 12 of 348 prompts, 0.4 a second, about 14 min left``; without a rate before the first
        item."""
        text = f"{self.label}: {self.done} of {self.total} {self.unit}s" if self.total else self.label
        spent = now - self.started
        if not self.counted or spent <= 0:
            return f"{text}, {_duration(spent)} so far"
        rate = self.counted / spent
        return f"{text}, {rate:.2g} a second, about {_duration((self.total - self.done) / rate)} left"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def lines_through(say: Callable[[str], None], *, every: float = EVERY) -> Bars:
    """Bars that say a line every so many seconds, whichever measuring goes on then, and however long one item takes.

    Lines come from a thread of their own, so ``say`` must bear that.
    """
    next_at = time.monotonic() + every

    @contextmanager
    def bar(label: str, total: int, done: int, unit: str) -> Iterator[Bar]:
        nonlocal next_at
        counted, over = LineBar(label=label, total=total, done=done, unit=unit), threading.Event()
        # A line that was due while nothing went on would tell of a beginning.
        next_at = max(next_at, time.monotonic() + every / 6)

        def tell() -> None:
            nonlocal next_at
            while not over.wait(max(0.0, next_at - time.monotonic())):
                say(counted.line(time.monotonic()))
                next_at = time.monotonic() + every

        thread = threading.Thread(target=tell, name="tuneshift progress", daemon=True)
        thread.start()
        try:
            yield counted
        finally:
            over.set()
            thread.join()

    return bar


def bars_on(stream: TextIO) -> Bars:
    """Bars with rate and remaining time on a terminal; a line a minute where the stream is none or ``$CI`` is set."""
    if os.environ.get("CI") or not stream.isatty():
        return lines_through(lambda line: print(f"tuneshift: {line}", file=stream, flush=True))

    @contextmanager
    def bar(label: str, total: int, done: int, unit: str) -> Iterator[Bar]:
        from tqdm import tqdm

        with tqdm(
            total=total, initial=done, desc=label, unit=unit, file=stream, dynamic_ncols=True, leave=False
        ) as shown:
            yield shown

    return bar
