"""Chat templates rendered within limits of time, memory and length: a template is somebody else's program."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..errors import PairError
from ..parse import one_line
from ..plain import NOTHING

SECONDS = 10.0
"""Time that one rendering may take; an honest one takes a millisecond."""
LONGEST = 1_000_000
"""Characters that a template may write beyond twice what the turns say; the longest of published ones have 20,000."""
MEMORY = 2**30
"""Bytes that a rendering may take beyond what the process has, where the system can limit that (Linux)."""
_RENDERING = threading.Lock()


class _TooSlowError(BaseException):
    """Raised in the rendering thread by its clock; no ``except Exception`` on the way may take it for its own."""


def render_limited(
    turns: Sequence[Mapping[str, str]],
    tokenizer: Any,
    chat_template: str,
    *,
    opened: bool,
    variables: Mapping[str, Any] = NOTHING,
) -> str:
    """A chat as text by a Jinja template; ``opened`` for the assistant to speak next, ``variables`` for the template.

    Raises PairError for whatever the template does instead: an error of any kind, more than 10 s, more than 1 GiB, or
    an output a million characters longer than twice the turns. One step of Python that takes long (a power of huge
    numbers) is not interrupted.
    """

    def render() -> str:
        return str(
            tokenizer.apply_chat_template(
                list(turns), tokenize=False, add_generation_prompt=opened, chat_template=chat_template, **variables
            )
        )

    try:
        with _RENDERING, _memory_limited():
            rendered = _within(SECONDS, render)
    except _TooSlowError:
        raise PairError(_unrendered(f"it takes longer than {SECONDS:g} s")) from None
    except MemoryError:
        raise PairError(_unrendered("it takes more memory than there is, or than 1 GiB")) from None
    except Exception as error:  # a template is a program: it divides by zero, overflows, calls itself
        raise PairError(_unrendered(f"{type(error).__name__}: {one_line(str(error)) or 'no message'}")) from error
    most = LONGEST + 2 * sum(len(turn["content"]) for turn in turns)
    if len(rendered) > most:
        raise PairError(_unrendered(f"it writes {len(rendered):,} characters, and at most {most:,} are accepted"))
    return rendered


def _unrendered(why: str) -> str:
    return (
        f"the chat template cannot be rendered: {why.removesuffix('.')}. Correct it, or set chat_template to "
        "another file, or to 'none' for plain prompts."
    )


def _within(seconds: float, work: Callable[[], str]) -> str:
    """What ``work`` returns. Raises _TooSlowError in the calling thread, whichever it is, when the time is up.

    No signal: those reach the main thread only, and pytest-timeout has the alarm.
    """
    done, late = False, False
    gate = threading.Lock()
    thread = ctypes.c_ulong(threading.get_ident())

    def interrupt() -> None:
        nonlocal late
        with gate:
            if not done:
                late = True
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(_TooSlowError))

    clock = threading.Timer(seconds, interrupt)
    clock.daemon = True
    clock.start()
    try:
        result = work()
    finally:
        clock.cancel()
        with gate:
            done = True
            if late:  # also where the work ended in the same moment: nothing may be raised later, elsewhere
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, None)
    if late:
        raise _TooSlowError
    return result


@contextlib.contextmanager
def _memory_limited() -> Iterator[None]:
    try:
        import resource

        with open("/proc/self/statm") as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = taken + MEMORY
        if soft != resource.RLIM_INFINITY:
            wanted = min(wanted, soft)
        resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    except (ImportError, OSError, ValueError):  # Windows, macOS, a sandbox
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
