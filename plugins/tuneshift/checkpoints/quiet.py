"""Loading without the libraries' chatter."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers' progress bars and warnings off the screen; what matters in them is raised as an error."""
    import warnings

    import transformers

    logging: Any = transformers.utils.logging  # its functions carry no types
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def bars_on_terminals_only() -> Iterator[None]:
    """Keeps bars that `quiet` does not reach, as transformers' of a GGUF file, out of logs; a terminal has them."""
    with contextlib.nullcontext() if sys.stderr.isatty() else contextlib.redirect_stderr(io.StringIO()):
        yield


def first_line(error: BaseException) -> str:
    """Type and first line of an error's message, for a message of our own."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"
