"""Tokenizers: loading, and whether two ask the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import CheckpointError, PairError
from ..readings import Readings, tokenizer_content
from .files import tokenizer_folder
from .quiet import first_line, quiet
from .refs import ModelRef

# Text on which two tokenizers of one vocabulary are compared: case, numbers, spaces, lines, code, other scripts.
_PROBE = "Name three colours, don't guess! 2,048 = 2**11\n\n  if x_1: return 'été'\t(日本語) Größe → 🙂"
_SHOWN = 10


def load_tokenizer(ref: ModelRef) -> Any:
    """The checkpoint's fast tokenizer (`transformers`), from the adapter's folder where that brings one.

    Raises CheckpointError where it cannot be built or has no fast form, because instruction spans need its offsets.
    """
    from transformers import AutoTokenizer

    folder = tokenizer_folder(ref)
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=ref.trust_remote_code
            )
    except Exception as error:  # whatever the folder's files make the tokenizer's code raise
        raise CheckpointError(f"The tokenizer in {folder} cannot be loaded: {first_line(error)}") from error
    if not tokenizer.is_fast:
        raise CheckpointError(
            f"The tokenizer in {folder} ({type(tokenizer).__name__}) has no fast form, which spans need for character "
            "offsets. Convert it once: save a tokenizer.json made with the `tokenizers` library beside it."
        )
    return tokenizer


def tokenizer_differences(a: Any, b: Any) -> list[str]:
    """How tokenizer b departs from a, one line each, at most 10 per kind and then a count; empty for equal ones.

    Compared are the strings of shared ids, ids that only one knows, and, where the strings agree, the ids of a probe
    text, which brings merges and normalisation to light.
    """
    return [*_conflicts(a, b), *_only("extra", _tokens(b), _tokens(a))]


def require_same_tokenizer(base: ModelRef, tuned: ModelRef, readings: Readings | None = None) -> tuple[str, ...]:
    """Raises PairError naming the tokens where base and tuned split text into different ids.

    Returns what is allowed and worth a note, one line each: special tokens that the tuned checkpoint renames, as chat
    formats do with a base's reserved ones, and tokens that it adds beyond the base's vocabulary. Plain text yields
    neither; every other id means the same to both, and plain text is split alike. ``readings`` remembers what two
    tokenizers were found to differ in, unless a checkpoint brings code of its own.
    """
    own_code = base.trust_remote_code or tuned.trust_remote_code
    content = [tokenizer_content(tokenizer_folder(ref)) for ref in (base, tuned)]
    remembered = Readings() if readings is None or own_code else readings
    found = remembered.read(content, lambda: _compared(load_tokenizer(base), load_tokenizer(tuned)))
    if found["conflicts"]:
        raise PairError(
            f"Tokenizers of {base.name} and {tuned.name} differ: {'; '.join(found['conflicts'])}. Per-token measures "
            "of a pair need one tokenizer; special tokens of other names and tokens added after the "
            "base's last are fine. Name checkpoints of one family, or give the tuned one its base's tokenizer files."
        )
    notes = []
    if found["renamed"]:
        notes.append(f"{tuned.name} renames special tokens: {', '.join(found['renamed'])}")
    if found["added"]:
        notes.append(f"{tuned.name} adds tokens: {', '.join(found['added'])}")
    return tuple(notes)


def _compared(a: Any, b: Any) -> dict[str, list[str]]:
    left, right = _tokens(a), _tokens(b)
    renamed = [f"{left[i]} is {right[i]}" for i in _other_names(left, right) if i in _set_apart(a, b)]
    added = [repr(right[i]) for i in sorted(right.keys() - left.keys())]
    return {
        "conflicts": _conflicts(a, b),
        "renamed": _shorten(renamed, "more"),
        "added": _shorten(added, "more"),
    }


def _conflicts(a: Any, b: Any) -> list[str]:
    left, right = _tokens(a), _tokens(b)
    return [*_renamed(left, right, _set_apart(a, b)), *_only("missing", left, right)] or _probed(a, b)


def _tokens(tokenizer: Any) -> dict[int, str]:
    return {index: token for token, index in tokenizer.get_vocab().items()}


def _renamed(left: Mapping[int, str], right: Mapping[int, str], allowed: set[int]) -> list[str]:
    ids = [i for i in _other_names(left, right) if i not in allowed]
    return _shorten([f"id {i} is {left[i]!r} against {right[i]!r}" for i in ids], "other ids differ")


def _only(word: str, one: Mapping[int, str], other: Mapping[int, str]) -> list[str]:
    ids = sorted(one.keys() - other.keys())
    return _shorten([f"id {i} {one[i]!r} is {word}" for i in ids], f"other ids are {word}")


def _shorten(lines: list[str], rest: str) -> list[str]:
    return lines if len(lines) <= _SHOWN else [*lines[:_SHOWN], f"{len(lines) - _SHOWN} {rest}"]


def _probed(a: Any, b: Any) -> list[str]:
    first, second = (t(_PROBE, add_special_tokens=False)["input_ids"] for t in (a, b))
    if first == second:
        return []
    at = next((i for i, (x, y) in enumerate(zip(first, second, strict=False)) if x != y), min(len(first), len(second)))
    shown = [" ".join(map(repr, t.convert_ids_to_tokens(ids[at : at + 3]))) for t, ids in ((a, first), (b, second))]
    return [f"text is split differently, as {shown[0] or 'its end'} against {shown[1] or 'its end'}"]


def _set_apart(a: Any, b: Any) -> set[int]:
    """Ids that both tokenizers keep out of the text's own vocabulary, so that text without such a token's name never
    yields them: what special and reserved tokens are."""
    return set(a.added_tokens_decoder) & set(b.added_tokens_decoder)


def _other_names(left: Mapping[int, str], right: Mapping[int, str]) -> list[int]:
    return sorted(i for i in left.keys() & right.keys() if left[i] != right[i])
