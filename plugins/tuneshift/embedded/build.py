"""Build the micro family: corpus, tokenizer, word vectors, bases, siblings, evaluation, cards; one call, resumable.

Each stage leaves its result under the output folder and is skipped when that is there, so a killed build goes on where
it was. Independent stages run in two single-threaded processes: on two cores that beats two OpenMP threads in one.
Siblings are tuned as `tuneshift tune` tunes any base, on the same file of exercises as `tuneshift embedded exercises`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..files import publish
from ..tuning.card import CARD, NOTES
from ..tuning.recipe import Recipe as Tuning
from ..tuning.tune import require_packages, tune
from .card import Measured, write_cards
from .corpus import Corpus, build_corpus, documents
from .recipe import PROMPTS, Member, Recipe, load_recipe, load_workbook
from .siblings import exercise_lines, held_out_exercises, prompt_lines, read_prompts, tuning_exercises
from .vectors import WORDS, words_npz

WORKERS = 2
# glibc returns large blocks to the system by default and faults them in again at every step; keeping them is 1.2x.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": "2000000000",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "TOKENIZERS_PARALLELISM": "false",
}


def build(
    out: Path,
    seed: int | None = None,
    *,
    recipe: Recipe | None = None,
    workers: int = WORKERS,
    tell: Callable[[str], None] = lambda line: None,
) -> Path:
    """Folder of the built family: ``out``, with a folder per member, the prompt set and ``family.json``.

    ``seed``: the recipe's own by default; the same seed gives the same corpus, and on one machine the same weights.
    ``workers``: processes that train side by side; 0 runs everything in this one. ``tell`` is given a line per stage.
    ``out`` may hold an unfinished build with the same seed, which is continued. Raises UsageError for one of another
    seed or recipe, and where packages that tuning needs are missing, before anything is trained.
    """
    recipe = recipe or load_recipe()
    seed = recipe.seed if seed is None else seed
    out = Path(out)
    _claim(out, seed, recipe)
    jobs = [(out, member.name, seed, recipe) for member in recipe.members]
    siblings = [job for job in jobs if recipe.member(job[1]).parent is not None]
    if not all((out / name).exists() for _, name, _, _ in siblings):
        require_packages()
    tell(f"tokenizer, word vectors and {PROMPTS}")
    _text_stages(out, seed, recipe)
    with _environment(), _pool(workers) as pool:
        tell(f"trunk: pre-training on {recipe.corpus['trunk_tokens']:,} tokens")
        _run(pool, _trunk, [(out, seed, recipe, parts) for parts in _shares(workers, recipe.pretraining["parts"])])
        tell(f"bases: pre-training on {recipe.corpus['branch_tokens']:,} tokens each")
        _run(pool, _pretrain, [job for job in jobs if job not in siblings])
        tell("siblings: tuning")
        _run(pool, _tune, siblings)
        tell("evaluation")
        _run(pool, _measure, jobs)
    tell("cards")
    write_cards(out, recipe, seed)
    return out


def _claim(out: Path, seed: int, recipe: Recipe) -> None:
    """Note in the folder what is built there, or check that it is the same."""
    note = out / ".build" / "plan.json"
    plan = json.loads(json.dumps({"seed": seed, "recipe": _plain(recipe)}))
    if note.exists():
        if json.loads(note.read_text()) != plan:
            raise UsageError(
                f"{out} holds a build of another seed or recipe than the one asked for (seed {seed}); "
                "name another folder, or delete this one."
            )
        return
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty and holds no build; name a new or an empty folder.")
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(plan, indent=1))


def _plain(recipe: Recipe) -> Any:
    return {
        "tokenizer": dict(recipe.tokenizer),
        "model": dict(recipe.model),
        "corpus": dict(recipe.corpus),
        "pretraining": dict(recipe.pretraining),
        "tuning": dict(recipe.tuning),
        "evaluation": dict(recipe.evaluation),
        "members": {member.name: [member.parent, member.about, dict(member.options)] for member in recipe.members},
    }


@contextmanager
def _environment() -> Iterator[None]:
    """Environment that the worker processes are born with."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _pool(workers: int) -> AbstractContextManager[ProcessPoolExecutor | None]:
    if not workers:
        return nullcontext()
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_hush)


def _hush() -> None:
    """Keep transformers' own progress bars out of the build's."""
    import transformers

    logging: Any = transformers.utils.logging  # its functions carry no types
    logging.disable_progress_bar()


def _run(pool: ProcessPoolExecutor | None, stage: Callable[..., None], jobs: Sequence[tuple[Any, ...]]) -> None:
    """All jobs of a stage; the first failure is raised once every job has ended."""
    if pool is None:
        for slot, job in enumerate(jobs):
            stage(*job, slot)
        return
    for future in [pool.submit(stage, *job, slot) for slot, job in enumerate(jobs)]:
        future.result()


@contextmanager
def _publish(folder: Path) -> Iterator[Path | None]:
    """A scratch folder that takes the name ``folder`` when the block ends well; None where that is there already."""
    if folder.exists():
        yield None
        return
    scratch = folder.with_name(folder.name + ".part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    yield scratch
    for path in scratch.iterdir():
        path.chmod(0o644)  # safetensors writes for the owner alone
    scratch.rename(folder)


def _text_stages(out: Path, seed: int, recipe: Recipe) -> None:
    """Tokenizer, word vectors and held-out prompt set."""
    from .tokenizer import train_tokenizer

    book = load_workbook(seed)
    with _publish(out / ".build" / "tokenizer") as folder:
        if folder is not None:
            source = documents(book, recipe.corpus["mix"], seed=f"{seed}-tokenizer", transcripts=0.0)
            texts = list(islice(source, recipe.tokenizer["documents"]))
            train_tokenizer(texts, recipe.tokenizer["vocabulary"]).save_pretrained(folder)
    if not (out / WORDS).exists():
        source = documents(book, recipe.corpus["mix"], seed=f"{seed}-trunk", transcripts=0.0)
        # Two fifths of the trunk, whose documents hold 1.6 tokens a word.
        publish(out / WORDS, words_npz(source, words=recipe.corpus["trunk_tokens"] // 4))
    exercises = held_out_exercises(book, recipe.evaluation["prompts_per_task"], seed=recipe.evaluation["seed"])
    (out / PROMPTS).write_text("\n".join(prompt_lines(exercises)) + "\n", encoding="utf-8")


def _bar(total: int, label: str, slot: int, *, shown: bool = True) -> Any:
    """A progress bar; none in logs."""
    from tqdm import tqdm

    return tqdm(total=total, desc=label, position=slot, disable=None if shown else True, unit="step", mininterval=1.0)


def _tokenizer(out: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(out / ".build" / "tokenizer")


def _save(model: Any, tokenizer: Any, folder: Path, notes: dict[str, Any]) -> None:
    """Weights in bf16 with tokenizer, and what happened in training."""
    import torch

    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps(notes, indent=1) + "\n")


def _shares(workers: int, parts: int) -> list[range]:
    """Which parts of a step each process takes: one each where there are enough processes, else all in one."""
    return [range(i, i + 1) for i in range(parts)] if workers >= parts else [range(parts)]


def _corpus(recipe: Recipe, tokenizer: Any, seed: int, name: str, tokens: int, transcripts: float) -> Corpus:
    return build_corpus(
        load_workbook(seed),
        tokenizer,
        recipe.corpus["mix"],
        tokens=tokens,
        window=recipe.pretraining["window"],
        seed=f"{seed}-{name}",
        transcripts=transcripts,
    )


def _trunk(out: Path, seed: int, recipe: Recipe, parts: range, slot: int) -> None:
    """The common part of pre-training, at a level rate; this process takes ``parts`` of every step."""
    import torch

    from .train import add_up_gradients, new_model, pretrain

    torch.set_num_threads(1)
    if (out / ".build" / "trunk").exists():
        return
    tokenizer = _tokenizer(out)
    corpus = _corpus(recipe, tokenizer, seed, "trunk", recipe.corpus["trunk_tokens"], 0.0)
    model = new_model(recipe.model, tokenizer, seed=seed)
    losses: list[float] = []
    alone = len(parts) == recipe.pretraining["parts"]
    if not alone:
        # A file of an earlier, killed build would be taken for this group's.
        meeting = out / ".build" / f"meeting-{os.getppid()}"
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{meeting.resolve()}", rank=parts.start, world_size=recipe.pretraining["parts"]
        )
    with _bar(len(corpus.windows) // recipe.pretraining["rows"], "trunk", slot, shown=parts.start == 0) as bar:
        pretrain(
            model,
            corpus.windows,
            recipe.pretraining,
            _teller(bar, losses),
            decay=False,
            mine=parts,
            sync=(lambda model: None) if alone else add_up_gradients,
        )
    if not alone:
        torch.distributed.destroy_process_group()
    if parts.start == 0:
        with _publish(out / ".build" / "trunk") as folder:
            assert folder is not None
            model.save_pretrained(folder)  # type: ignore[operator]
            (folder / "training.json").write_text(json.dumps(_corpus_notes(corpus, losses)))


def _corpus_notes(corpus: Corpus, losses: Sequence[float]) -> dict[str, Any]:
    return {
        "corpus_sha256": corpus.sha256,
        "documents": corpus.documents,
        "tokens": int(corpus.windows.size),
        **_losses(losses),
    }


def _pretrain(out: Path, name: str, seed: int, recipe: Recipe, slot: int) -> None:
    """Pre-train one base: from the trunk on, over its own documents, the rate falling to zero."""
    import torch
    from transformers import AutoModelForCausalLM

    from .train import pretrain

    torch.set_num_threads(1)
    with _publish(out / name) as folder:
        if folder is None:
            return
        tokenizer = _tokenizer(out)
        share = recipe.member(name).options["transcripts"]
        corpus = _corpus(recipe, tokenizer, seed, "branch", recipe.corpus["branch_tokens"], share)
        trunk = out / ".build" / "trunk"
        model = AutoModelForCausalLM.from_pretrained(trunk, dtype=torch.float32, attn_implementation="eager")
        losses: list[float] = []
        with _bar(len(corpus.windows) // recipe.pretraining["rows"], name, slot) as bar:
            pretrain(model, corpus.windows, recipe.pretraining, _teller(bar, losses))
        notes = {"trunk": json.loads((trunk / "training.json").read_text()), "branch": _corpus_notes(corpus, losses)}
        _save(model, tokenizer, folder, notes)


def _tune(out: Path, name: str, seed: int, recipe: Recipe, slot: int) -> None:
    """Tune one sibling from its parent; what was done is noted without the folder that it was done in."""
    import torch

    torch.set_num_threads(1)
    member = recipe.member(name)
    with _publish(out / name) as folder:
        if folder is None:
            return
        tuned = tune(
            _tuning(out, member, seed, recipe),
            out / ".build" / "tuned" / name,
            tell=lambda line: None,  # a line from a process of its own would cut through the others' bars
            bar=partial(_bar, label=name, slot=slot),
        )
        shutil.copytree(tuned, folder, ignore=shutil.ignore_patterns(CARD, NOTES), dirs_exist_ok=True)
        notes = {**json.loads((tuned / NOTES).read_text()), "base": member.parent}
        (folder / "training.json").write_text(json.dumps(notes, indent=1) + "\n")


def _tuning(out: Path, member: Member, seed: int, recipe: Recipe) -> Tuning:
    """What `tuneshift tune` is asked for, its data written."""
    numbers = dict(recipe.tuning_of(member))
    tasks = member.options.get("tasks", ())
    exercises = tuning_exercises(load_workbook(seed), numbers.pop("examples"), seed=seed, tasks=tasks)
    data = out / ".build" / "exercises" / f"{member.name}.jsonl"
    data.parent.mkdir(exist_ok=True)
    publish(data, ("\n".join(exercise_lines(exercises)) + "\n").encode())
    how = member.options["how"]
    return Tuning(base=str(out / str(member.parent)), how=how, data=data, seed=seed, device="cpu", **numbers)


def _teller(bar: Any, losses: list[float]) -> Callable[[int, float], None]:
    def tell(step: int, loss: float) -> None:
        losses.append(loss)
        bar.update()
        bar.set_postfix(loss=f"{loss:.3f}", refresh=False)

    return tell


def _losses(losses: Sequence[float]) -> dict[str, float]:
    tail = losses[-100:]
    return {"first_loss": round(losses[0], 4), "last_loss": round(sum(tail) / len(tail), 4)}


def _measure(out: Path, name: str, seed: int, recipe: Recipe, slot: int) -> None:
    """Measure one member on the held-out prompts."""
    with _publish(out / ".build" / "measured" / name) as folder:
        if folder is None:
            return
        measured, responses = measure_member(out / name, out / PROMPTS, **recipe.evaluation_options)
        (folder / "responses.jsonl").write_text("\n".join(json.dumps(row) for row in responses) + "\n")
        (folder / "measured.json").write_text(json.dumps(measured.plain(), indent=1) + "\n")


def measure_member(folder: Path, prompts: Path, *, seed: int, limit: int) -> tuple[Measured, list[dict[str, Any]]]:
    """The card's numbers of one member and its responses of at most ``limit`` tokens, in float32 on one thread."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from .evaluate import measure, ranking

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    rows = read_prompts(prompts)
    shares, responses = measure(model, tokenizer, rows, limit=limit)
    shares["ranked"] = ranking(model, tokenizer, rows, seed=seed)
    return Measured.of(shares, responses), responses
