"""The command line of ``pytest suites``: what can be asked for, with help that explains."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import cache_folder
from ..plain import NOTHING
from ..resources import checked_templates, data_folder

if TYPE_CHECKING:
    import pytest

    from .requests import Gating, Options

STORE_VARIABLE = "TUNESHIFT_STORE"
STORAGE_VARIABLE = "TUNESHIFT_STORAGE"
OF_A_RUN = frozenset(
    f"--shift-{name}"
    for name in (
        "evidence", "plan", "out", "templates", "store", "device", "noise-floor", "alpha", "update-expectations",
        "save", "overwrite", "compare", "margin", "gate-inconclusive", "allow-missing", "min-power", "storage",
        "inconclusive",
    )
)  # fmt: skip
"""Options that leave alone what is measured."""
EXAMPLE_MARGIN = "hewitt2024.tuned_follows=0.1"


def add_options(parser: pytest.Parser) -> None:
    """Declare the options on pytest's parser."""
    group = parser.getgroup("tuneshift", "tuneshift: findings about instruction tuning on pairs of checkpoints")
    _declare(group.addoption)


def _declare(add: Callable[..., Any]) -> None:
    add(
        "--base",
        metavar="CHECKPOINT",
        help="Base checkpoint: a folder, a GGUF file, a hub id or embedded:FAMILY/NAME; quantised ones too "
        "(docs/checkpoints.md).",
    )
    add(
        "--tuned",
        action="append",
        default=[],
        metavar="CHECKPOINT",
        help="Tuned checkpoint of the same tokenizer; each one named makes a pair with the base. Without a pair: the "
        "embedded one. Write --tuned=FOLDER: pytest takes a folder that stands alone for tests and reads its "
        "configuration from there.",
    )
    add(
        "--pairs",
        metavar="FILE",
        help="TOML file of pairs ([pairs.NAME]); default: [tool.tuneshift.pairs] of the pyproject.toml here or above.",
    )
    add(
        "--pair",
        action="append",
        default=[],
        metavar="NAME",
        help="Only this pair of the file, or the pair of an imported evidence file; may be repeated.",
    )
    add("--shift-evidence", action="append", default=[], metavar="FILE",
        help="Evidence file of a pair, as `tuneshift evidence export` writes it: its claims are decided without "
        "weights and without network; may be repeated. One that was imported is found by --pair.")  # fmt: skip
    add("--finding", action="append", default=[], metavar="ID",
        help="Only this finding, by the id that tables show, or those of a pattern such as wu2023.*; may be "
        "repeated.")  # fmt: skip
    add("--shift-prompts", action="append", default=[], metavar="SET",
        help="Prompt set (JSONL file or name of a shipped one) instead of the pair's; may be repeated.")  # fmt: skip
    add("--shift-plan", action="store_true", help="Print what would be measured and what is stored; load no weights.")
    add("--shift-out", default="tuneshift-results", metavar="DIR",
        help="Where run.json, summary.md and report.html go (default: %(default)s).")  # fmt: skip
    add("--shift-templates", metavar="DIR",
        help="Folder of Jinja templates that come before the report's own of the same name.")  # fmt: skip
    add("--shift-store", metavar="DIR",
        help=f"Evidence store (default: ${STORE_VARIABLE}, else the user's cache folder).")  # fmt: skip
    add("--shift-dtype", default="float32", choices=("float32", "bfloat16", "float16", "float64"),
        help="dtype of weights and forward passes (default: %(default)s; half precision moves levels).")  # fmt: skip
    add(
        "--shift-device",
        default="auto",
        metavar="DEVICE",
        help="cpu, cuda, cuda:1, mps or auto (default: %(default)s).",
    )
    add("--shift-backend", metavar="NAME[:ARGS]",
        help="Score and generate through this model of lm-eval, as hf, vllm, sglang or "
        "local-completions:base_url=http://127.0.0.1:8000/v1/completions (default: the pair file's, else none: this "
        "process's own passes). Rules, attribution and findings on weights load the checkpoint anyway.")  # fmt: skip
    add("--shift-noise-floor", action="store_true",
        help="Measure everything a second time in another dtype (bfloat16 for float32, float32 for others) and in "
        "batches of half the size; an effect no larger than what that moves it by is not claimed.")  # fmt: skip
    add("--shift-response", default="own", choices=("own", "reference", "tuned"),
        help="Whose response importance is attributed to: each model's own (the paper's protocol, default), the prompt "
        "set's reference, or the tuned model's for both.")  # fmt: skip
    add("--shift-attribute-tokens", type=int, metavar="N",
        help="Take importance for N evenly spaced tokens of each response, at least 5, rather than for all: cheaper, "
        "and scores are other ones (default: the pair's attribute_tokens, else all).")  # fmt: skip
    add("--shift-attribute-template", default="no", choices=("no", "yes"),
        help="Whether importance is taken of the chat template's tokens too where that costs time: no "
        "verdict reads it, the readings over all prompt tokens do (default: %(default)s).")  # fmt: skip
    add("--shift-max-new-tokens", type=int, metavar="N",
        help="Longest response in tokens (default: the pair's max_new_tokens, else 300 as in the paper).")  # fmt: skip
    add("--shift-vocabulary", metavar="N|FILE",
        help="Words of the findings on weights: the N most frequent of English, or a file with one a line (default: "
        "the pair's, else 10000).")  # fmt: skip
    add("--shift-word-vectors", metavar="SPACE",
        help="Independent word space of the findings on weights: minilm (offline), glove (from the hub), or a .npz or "
        "word2vec text file (default: the pair's, else minilm).")  # fmt: skip
    add("--shift-annotator", default="embedding", metavar="ANNOTATOR",
        help="Who sorts feed-forward concepts into categories: embedding (default, offline), openai:MODEL@URL (key in "
        "$OPENAI_API_KEY), or hf:CHECKPOINT.")  # fmt: skip
    add("--shift-rules", default="hewitt2024", metavar="RULES",
        help="Rules of the adapter on the base: a shipped name or a TOML file (default: %(default)s).")  # fmt: skip
    add("--shift-base-format", default="generation", choices=("generation", "both", "none"),
        help="What the base is asked in a plain format for too, as a reading beside the verdicts: generation "
        "(default), both that and attribution, or none.")  # fmt: skip
    add("--shift-plain-format", metavar="FORMAT",
        help="That plain format: a Jinja file, a template, or none for the prompt alone (default: the pair's "
        "plain_format, else 'Question: ...', a line end, 'Answer:').")  # fmt: skip
    add("--shift-judge", action="append", default=[], metavar="JUDGE",
        help="Who says whether a response follows: verifier (the prompts' own rules), ifeval (lm-eval's rules, for "
        "prompts in IFEval's form), similarity (nearer to the reference, offline), openai:MODEL@URL or hf:CHECKPOINT; "
        "may be repeated, the first decides (default: verifier if prompts have rules, else similarity).")  # fmt: skip
    add("--shift-alpha", default=0.05, type=float, metavar="A",
        help="Error rate that the findings of a family share, on each pair, prompt set and group "
        "(default: %(default)s).")  # fmt: skip
    add("--shift-update-expectations", action="store_true",
        help="Rewrite the pair's expectations file from this run's outcomes, keeping comments. The run still fails "
        "where an outcome is news; give the reasons before the next.")  # fmt: skip
    add("--shift-save", metavar="NAME", help="Keep this run as the baseline NAME.")
    add("--shift-overwrite", action="store_true", help="Let --shift-save replace a baseline of that name.")
    add("--shift-compare", metavar="NAME",
        help="Test the tuned checkpoint against the baseline NAME: what regressed fails, what held passes, whatever "
        "the verdict.")  # fmt: skip
    add("--shift-margin", action="append", default=[], metavar="FINDING=VALUE",
        help="How much worse than the baseline is still held, in the finding's unit; may be repeated (default: the "
        "finding's smallest effect of interest).")  # fmt: skip
    add("--shift-gate-inconclusive", default="pass", choices=("fail", "pass"),
        help="What a comparison that cannot say does to its test: pass, and the run says how many cannot, or fail "
        "(default: %(default)s).")  # fmt: skip
    add("--shift-allow-missing", action="store_true",
        help="Let claims of the baseline that this run should make, and has no effect for, pass.")  # fmt: skip
    add("--shift-min-power", action="append", default=[], metavar="[FINDING=]LOSS",
        help="Stop where the comparison would not see a true LOSS in 80 %% of runs: in margins for every claim on "
        "prompts, in the finding's unit for FINDING=LOSS; may be repeated.")  # fmt: skip
    add("--shift-storage", metavar="DIR",
        help=f"Where baselines lie (default: ${STORAGE_VARIABLE}, else .tuneshift/baselines of the project that "
        "this folder is in).")  # fmt: skip
    add("--shift-inconclusive", default="skip", choices=("fail", "skip", "pass"),
        help="What an inconclusive verdict does to its test where no comparison decides it: skip, since nobody can act "
        "on it, fail for strict runs, or pass (default: %(default)s).")  # fmt: skip


def asks_for_suites(config: pytest.Config) -> bool:
    """Whether this run is about tuneshift's suites: a pair option was given, or an argument names them.

    Any other pytest run of the environment must not notice that the plugin is there.
    """
    option = config.option
    if any(
        (option.base, option.tuned, option.pairs, option.pair, option.shift_evidence, option.finding, option.shift_plan)
    ):
        return True
    return any(_names_suites(str(arg), config.invocation_params.dir) for arg in config.args)


def _names_suites(arg: str, folder: Path) -> bool:
    name = arg.split("::")[0]
    if name.startswith("tuneshift.suites"):
        return True
    suites = data_folder("suites").resolve()
    path = (folder / name).resolve()
    return path == suites or suites in path.parents


def default_store() -> Path:
    """Folder of the evidence store: ``$TUNESHIFT_STORE``, else below the user's cache folder."""
    named = os.environ.get(STORE_VARIABLE)
    if named:
        return Path(named).expanduser()
    return cache_folder() / "evidence"


def templates_folder(config: pytest.Config) -> Path | None:
    """The folder of ``--shift-templates``; None without. Raises UsageError where it is no folder."""
    return _templates(config.option)


def _templates(option: Any) -> Path | None:
    named = option.shift_templates
    return None if named is None else checked_templates(Path(named).expanduser())


def read_options(config: pytest.Config) -> Options:
    """What was asked for, checked. Raises UsageError."""
    return checked_options(config.option, config.invocation_params.dir)


def options_of(words: Sequence[str], here: Path, *, given: Mapping[str, Any] = NOTHING) -> Options:
    """What a command line of `pytest suites` asks for, as `read_options`; pytest's own options are passed over.

    ``given``: values by attribute that stand above the command line, as ``pair``; None stands for nothing.
    """
    import argparse

    known = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    _declare(known.add_argument)
    option = known.parse_known_args(words)[0]
    for name in vars(option).keys() & given.keys():
        if given[name] is not None:
            setattr(option, name, given[name])
    return checked_options(option, here)


def add_measured(add: Callable[..., Any]) -> None:
    """Declare on another parser the options that say what is measured, of which checkpoints and how; default None."""
    _declare(lambda name, **said: None if name in OF_A_RUN else add(name, **{**said, "default": None}))


def checked_options(option: Any, here: Path) -> Options:
    """The options of `add_options`, as attributes of ``option``, checked. Raises UsageError."""
    from ..backends.spec import parse_backend
    from ..engine.settings import Settings
    from ..errors import UsageError
    from ..pairs import FEWEST_ATTRIBUTED
    from ..words.spec import words_from_option
    from .requests import Options

    if not 0 < option.shift_alpha < 1:
        raise UsageError(f"--shift-alpha is {option.shift_alpha}; it is an error rate, between 0 and 1 (0.05).")
    if option.shift_max_new_tokens is not None and option.shift_max_new_tokens < 1:
        raise UsageError(f"--shift-max-new-tokens is {option.shift_max_new_tokens}; a response needs at least 1.")
    if option.shift_attribute_tokens is not None and option.shift_attribute_tokens < FEWEST_ATTRIBUTED:
        raise UsageError(
            f"--shift-attribute-tokens is {option.shift_attribute_tokens}; at least {FEWEST_ATTRIBUTED} are wanted, "
            "one for each fifth of a response."
        )
    _templates(option)  # a mistake here should not cost a run
    store = Path(option.shift_store).expanduser() if option.shift_store else default_store()
    return Options(
        base=option.base,
        tuned=tuple(option.tuned),
        pairs_file=Path(option.pairs) if option.pairs else None,
        pair_names=tuple(option.pair),
        prompts=tuple(option.shift_prompts),
        store=store,
        settings=Settings(
            response=option.shift_response,
            attribute_tokens=option.shift_attribute_tokens,
            attribute_template=option.shift_attribute_template,
            max_new_tokens=option.shift_max_new_tokens,
            vocabulary=words_from_option("--shift-vocabulary", option.shift_vocabulary),
            word_vectors=words_from_option("--shift-word-vectors", option.shift_word_vectors),
            annotator=option.shift_annotator,
            rules=option.shift_rules,
            base_format=option.shift_base_format,
            plain_format=option.shift_plain_format,
            judges=tuple(option.shift_judge),
            backend=None if option.shift_backend is None else parse_backend(option.shift_backend),
            dtype=option.shift_dtype,
            device=option.shift_device,
            memo=cache_folder() / "fingerprints.json",
        ),
        alpha=option.shift_alpha,
        here=here,
        evidence=tuple(Path(file).expanduser().absolute() for file in option.shift_evidence),
        update_expectations=option.shift_update_expectations,
        noise_floor=option.shift_noise_floor,
        gating=_gating(option, here),
    )


def _gating(option: Any, here: Path) -> Gating:
    from ..gate.baselines import storage_folder
    from .requests import Gating

    return Gating(
        storage=storage_folder(option.shift_storage, here),
        save=option.shift_save,
        compare=option.shift_compare,
        overwrite=option.shift_overwrite,
        margins=margins_of(option.shift_margin, "--shift-margin"),
        allow_missing=option.shift_allow_missing,
        min_power=losses_of(option.shift_min_power, "--shift-min-power"),
    )


def findings_named(patterns: Iterable[str], known: Iterable[str]) -> set[str]:
    """Ids of the known findings that ``--finding`` names, each an id or a shell pattern.

    Raises UsageError for one that names none.
    """
    from ..errors import UsageError, did_you_mean

    ids = set(known)
    named: set[str] = set()
    for pattern in patterns:
        matching = {id for id in ids if fnmatchcase(id, pattern)}
        if not matching:
            raise UsageError(
                f"--finding {pattern!r} names no finding of the tests that run; {did_you_mean(pattern, ids)}."
            )
        named |= matching
    return named


@cache
def valued_options() -> frozenset[str]:
    """Options of ours that take a value."""
    found: list[str] = []
    _declare(lambda name, **attributes: found.append(name) if attributes.get("action") != "store_true" else None)
    return frozenset(found)


def command_line(arguments: Iterable[object]) -> str:
    """The run's command for a shell, each option of ours joined to its value: ``--tuned=FOLDER``.

    As two words the folder would be a path of tests to pytest, and its repository's configuration the run's.
    """
    return shlex.join(["pytest", *_joined(map(str, arguments))])


def _joined(words: Iterator[str]) -> Iterator[str]:
    for word in words:
        value = next(words, None) if word in valued_options() else None
        yield word if value is None else f"{word}={value}"


def foreign_configuration(config: pytest.Config) -> list[str]:
    """A line for the header where pytest took a checkpoint's folder for tests, and its configuration from there."""
    words = [str(word) for word in config.invocation_params.args]
    here, file = config.invocation_params.dir, config.inipath
    if file is None or file.parent in (here, *here.parents):
        return []
    for option, value in pairwise(words):
        path = here / value
        if option in valued_options() and path.exists() and file.parent in (path, *path.parents):
            return [
                f"tuneshift: pytest read {file}, because {option} and {value} are two words; write {option}={value}"
            ]
    return []


def margins_of(given: Sequence[str], option: str) -> dict[str, float]:
    """Margins by finding from ``FINDING=VALUE`` texts. Raises UsageError for another form and a value that is none."""
    from ..errors import UsageError

    margins: dict[str, float] = {}
    for text in given:
        finding, equals, value = text.partition("=")
        size = _size(value)
        if not equals or size is None:
            raise UsageError(f"{option} {text!r}: write FINDING=VALUE with a number above 0, as {EXAMPLE_MARGIN}.")
        margins[finding] = size
    return margins


def losses_of(given: Sequence[str], option: str) -> dict[str | None, float]:
    """Losses from ``LOSS`` (in margins, under None) and ``FINDING=LOSS`` texts. Raises UsageError for other ones."""
    from ..errors import UsageError

    losses: dict[str | None, float] = {}
    for text in given:
        finding, _, value = text.rpartition("=")
        size = _size(value)
        if size is None:
            raise UsageError(
                f"{option} {text!r}: write a number of margins above 0, as 2, or FINDING=LOSS, as {EXAMPLE_MARGIN}."
            )
        losses[finding or None] = size
    return losses


def _size(text: str) -> float | None:
    """A finite number above 0; None for anything else."""
    try:
        size = float(text)
    except ValueError:
        return None
    return size if 0 < size < math.inf else None
