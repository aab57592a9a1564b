"""Prompts in IFEval's form (arXiv:2311.07911), judged by the rules of EleutherAI's lm-eval.

A prompt's ``fields`` hold ``instruction_id_list`` and ``kwargs``: the names of rules, and each one's arguments.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..errors import UsageError, did_you_mean
from ..plain import Json
from ..prompts.prompt import Prompt
from ..words.texts import encodable
from .base import IFEVAL, Comparison, Scores

INSTALL = "pip install 'tuneshift[ifeval]'"
PUNKT = "tokenizers/punkt_tab/english/"
DOWNLOAD = "python -m nltk.downloader punkt_tab"
NEED_PUNKT = frozenset({"length_constraints:number_sentences", "change_case:capital_word_frequency"})
"""Rules that part a text into sentences, the second within nltk's word_tokenize."""
PACKAGES = ("lm_eval", "langdetect", "nltk")
"""Whose versions can change a score."""
TRIAL = "A trial response."


@dataclass(frozen=True)
class IfevalJudge:
    """Scores each response by itself: 1 where it follows all of its prompt's instructions, 0 where not.

    This is lm-eval's ``prompt_level_strict_acc``. An empty response follows none. A prompt is not judged if lm-eval
    would draw an argument of its instructions at random. The language detector, which is random too, is seeded, for the
    process. Raises UsageError as `check_ifeval`.
    """

    @property
    def identity(self) -> Mapping[str, Json]:
        return {"judge": IFEVAL, "packages": {name: _version(name) for name in PACKAGES}}

    @property
    def pairwise(self) -> bool:
        return False

    @property
    def unjudged(self) -> str:
        return "without IFEval instructions, or with an argument that lm-eval would draw at random"

    def scores(self, items: Sequence[Comparison]) -> list[Scores | None]:
        check_ifeval([item.prompt for item in items])
        return [_followed(item) for item in items]


def check_ifeval(prompts: Iterable[Prompt]) -> None:
    """Look for everything that could stop the judge, so that it is known before anything is generated.

    Prompts without IFEval instructions are passed over; without any other, nothing is imported. Raises UsageError where
    lm-eval, a package that it needs or NLTK's data are not installed, and where lm-eval does not know an instruction or
    cannot work with its arguments. Never downloads.
    """
    asked = [prompt for prompt in prompts if has_instructions(prompt)]
    if not asked:
        return
    utils = _lm_eval()
    known = utils.instructions_registry.INSTRUCTION_DICT
    for prompt in asked:
        for name in prompt.fields["instruction_id_list"]:
            if name not in known:
                raise UsageError(
                    f"prompt {prompt.id!r}: lm-eval has no instruction {name!r}; {did_you_mean(name, known)}."
                )
    needing = [p for p in asked if NEED_PUNKT.intersection(p.fields["instruction_id_list"])]
    if needing and not has_punkt_data():
        raise UsageError(
            f"{len(needing)} of {len(asked)} IFEval prompts (first {needing[0].id!r}) ask for numbers of sentences or "
            f"of words in capitals, and NLTK's data for that, punkt_tab, are not installed; get them by: {DOWNLOAD}"
        )
    for prompt in asked:
        _try(utils, prompt)


def has_instructions(prompt: Prompt) -> bool:
    """Whether the prompt is in IFEval's form."""
    return "instruction_id_list" in prompt.fields


def _followed(item: Comparison) -> Scores | None:
    if not has_instructions(item.prompt):
        return None
    utils = _lm_eval()
    if _drawn(utils, item.prompt):
        return None
    first, second = (float(_follows(utils, item.prompt, text)) for text in (item.first, item.second))
    return first, second


def _follows(utils: Any, prompt: Prompt, response: str) -> bool:
    example = utils.InputExample(
        key=prompt.fields.get("key", prompt.id),
        instruction_id_list=prompt.fields["instruction_id_list"],
        prompt=prompt.prompt,
        kwargs=prompt.fields["kwargs"],
    )
    return bool(utils.test_instruction_following_strict(example, encodable(response)).follow_all_instructions)


def _drawn(utils: Any, prompt: Prompt) -> bool:
    """Whether lm-eval draws an argument of an instruction at random, which shows in the generator that it draws from.

    It does so for what is absent, null, 0, empty or out of range, and for any letter but a to z.
    """
    known = utils.instructions_registry.INSTRUCTION_DICT
    before = random.getstate()
    try:
        for name, given in zip(prompt.fields["instruction_id_list"], prompt.fields["kwargs"], strict=True):
            known[name](name).build_description(**{key: value for key, value in given.items() if value})
        return random.getstate() != before
    finally:
        random.setstate(before)


def _try(utils: Any, prompt: Prompt) -> None:
    try:
        if not _drawn(utils, prompt):
            _follows(utils, prompt, TRIAL)
    except Exception as error:  # lm-eval's rules raise whatever their arguments lead to
        raise UsageError(
            f"prompt {prompt.id!r}: lm-eval cannot judge by its kwargs {prompt.fields['kwargs']!r} "
            f"({type(error).__name__}: {error}); correct them."
        ) from error


def _lm_eval() -> Any:
    """lm-eval's module of IFEval's rules."""
    try:
        with _without_download():
            utils = import_module("lm_eval.tasks.ifeval.utils")
        import_module("langdetect").DetectorFactory.seed = 0
    except (ImportError, AssertionError) as error:  # an assertion where nltk is too old
        raise UsageError(f"judge {IFEVAL}: lm-eval's IFEval rules cannot be imported ({error}); {INSTALL}") from error
    return utils


@contextmanager
def _without_download() -> Iterator[None]:
    """lm-eval downloads punkt_tab when its rules are imported, except in a process of another local rank than 0."""
    rank = os.environ.get("LOCAL_RANK")
    os.environ["LOCAL_RANK"] = "1"
    try:
        yield
    finally:
        del os.environ["LOCAL_RANK"]
        if rank is not None:
            os.environ["LOCAL_RANK"] = rank


def has_punkt_data() -> bool:
    try:
        import_module("nltk").data.find(PUNKT)
    except LookupError:
        return False
    return True


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
