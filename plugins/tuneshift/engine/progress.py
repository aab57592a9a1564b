"""Progress bars of long measuring."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TextIO


class Bar(Protocol):
    """What a progress bar must do; tqdm's does."""

    def update(self, n: int) -> object:
        """Move on by n items."""


Bars = Callable[[str, int, int, str], AbstractContextManager[Bar]]
"""(label, items in all, items already done, what an item is) -> a progress bar for as long as the measuring goes on."""


class SilentBar:
    """The bar of CI logs and xdist workers: none."""

    def update(self, n: int) -> None:
        """Show nothing."""


@contextmanager
def silent_bars(label: str, total: int, done: int, unit: str) -> Iterator[Bar]:
    """No progress bar."""
    yield SilentBar()


def bars_on(stream: TextIO) -> Bars:
    """Progress bars on a terminal stream, with rate and remaining time; none where it is no terminal or CI is set."""

    @contextmanager
    def bar(label: str, total: int, done: int, unit: str) -> Iterator[Bar]:
        from tqdm import tqdm

        quiet = bool(os.environ.get("CI")) or not stream.isatty()
        with tqdm(
            total=total,
            initial=done,
            desc=label,
            unit=unit,
            file=stream,
            disable=quiet,
            dynamic_ncols=True,
            leave=False,
        ) as shown:
            yield shown

    return bar
