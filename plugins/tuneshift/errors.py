"""The one family of errors. A message says what was wrong, the value got, what is accepted and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class TuneshiftError(Exception):
    """Base of every error that tuneshift raises on purpose."""


class UsageError(TuneshiftError, ValueError):
    """The user's input is at fault: a path, an option, a file's contents. pytest exits with 4."""


class PairError(UsageError):
    """A pair or checkpoint reference is missing, unknown or malformed."""


class PromptError(UsageError):
    """A prompt set is malformed; the message names file and line."""


class ExpectationError(UsageError):
    """An expectations file is malformed, stale or names an unknown finding."""


class CheckpointError(TuneshiftError):
    """A checkpoint cannot be loaded or its weights cannot be used."""


class MeasureError(TuneshiftError):
    """A measure could not be taken from a checkpoint that loaded."""


class NotMeasurableError(MeasureError):
    """A measure does not apply to a checkpoint, whatever is done: its architecture lacks what is measured, or no
    published finding says how. Findings on it are not applicable there, and no test fails."""


class EndpointError(TuneshiftError):
    """A language model behind a URL did not answer, or its server refused; the message says what the server said."""


class StoreError(TuneshiftError):
    """Evidence cannot be read from or written to the store."""


class EvidenceFileError(UsageError):
    """An evidence file is missing, foreign, damaged, of an unknown version, or beyond its limits."""


class RecordError(TuneshiftError):
    """A run record is unreadable, foreign or of a version that this code does not know."""


class WordError(UsageError):
    """A word list or word vectors cannot be had: a malformed file, an unknown name, a missing package or download."""


class NotInstalledError(UsageError):
    """An optional package is not installed; the message has the command that installs it. Findings that need it are not
    applicable here, and no test fails."""


def require_kind(name: str, value: object, kinds: type | tuple[type, ...], wanted: str) -> None:
    """Raise UsageError for an argument that is none of ``kinds``, which ``wanted`` names; True is no number."""
    accepted = kinds if isinstance(kinds, tuple) else (kinds,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
        raise UsageError(f"{name} is {wanted}; got {value!r:.80} ({type(value).__name__}).")


def counted(n: int, name: str, several: str | None = None) -> str:
    """``1 claim``, ``3 claims``; ``several`` is a plural that does not end in s."""
    return f"{n:,} {name if n == 1 else several or name + 's'}"


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """The known names in one clause, led by the closest to ``got`` where one is close."""
    names = sorted(known)
    close = get_close_matches(got, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names) if names else 'none'}"
