"""``tuneshift outputs``: stored responses in AlpacaEval's format."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..engine.plan import Planner
from ..errors import UsageError
from ..pairs import ModelPair
from ..plain import Json
from ..prompts.prompt import PromptSet
from ..prompts.sets import load_prompts
from ..store.evidence import EvidenceItem
from ..store.recorded import recorded
from ..store.store import Store
from .common import OK, Commands, add_store, require_other_files, store_folder


def add(commands: Commands) -> None:
    """Declare the command."""
    outputs = commands.add_parser("outputs", help="write stored responses as AlpacaEval reads model outputs")
    outputs.add_argument("--base", metavar="CHECKPOINT", help="as in `pytest suites`")
    outputs.add_argument("--tuned", metavar="CHECKPOINT", help="as in `pytest suites`")
    outputs.add_argument("--pairs", type=Path, metavar="FILE", help="as in `pytest suites`")
    outputs.add_argument("--pair", metavar="NAME", help="which pair of the file (default: its only one)")
    outputs.add_argument("--prompts", action="append", default=[], metavar="SET", help="as --shift-prompts there")
    outputs.add_argument("--role", default="tuned", help="base, tuned or a sibling's role (default: %(default)s)")
    outputs.add_argument("--with-rules", action="store_true", help="the responses under the rule adapter")
    outputs.add_argument("--rules", default="hewitt2024", metavar="RULES", help="as --shift-rules there")
    outputs.add_argument("--max-new-tokens", type=int, metavar="N", help="as --shift-max-new-tokens there")
    outputs.add_argument("--dtype", default="float32", help="as --shift-dtype there (default: %(default)s)")
    outputs.add_argument("--backend", metavar="NAME[:ARGS]", help="as --shift-backend there")
    add_store(outputs)
    outputs.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON file to write")
    outputs.set_defaults(command=_write_outputs)


def _write_outputs(arguments: argparse.Namespace) -> int:
    import json

    from ..backends.spec import parse_backend
    from ..engine.plan import Planner
    from ..engine.settings import Settings
    from ..files import cache_folder, publish
    from ..pairs import resolve_pairs
    from ..store.store import Store
    from .outputs import alpaca_outputs

    read = [*([arguments.pairs] if arguments.pairs else []), *map(Path, arguments.prompts)]
    require_other_files([arguments.out], read, "--out")
    pairs = resolve_pairs(
        base=arguments.base,
        tuned=() if arguments.tuned is None else (arguments.tuned,),
        pairs_file=arguments.pairs,
        names=[arguments.pair] if arguments.pair else [],
        prompts=arguments.prompts,
        here=Path.cwd(),
        store=store_folder(arguments),
    )
    if len(pairs) != 1:
        raise UsageError(f"Name one pair with --pair; there are {', '.join(pair.name for pair in pairs)}.")
    settings = Settings(
        max_new_tokens=arguments.max_new_tokens,
        dtype=arguments.dtype,
        rules=arguments.rules,
        backend=None if arguments.backend is None else parse_backend(arguments.backend),
        memo=cache_folder() / "fingerprints.json",
    )
    rows = alpaca_outputs(
        pairs[0],
        arguments.role,
        rules=arguments.with_rules,
        planner=Planner(settings=settings),
        store=Store(store_folder(arguments)),
    )
    try:
        publish(arguments.out, (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise UsageError(f"Cannot write {arguments.out}: {error.strerror or error}.") from error
    print(f"{len(rows)} responses in {arguments.out}")
    return OK


def alpaca_outputs(pair: ModelPair, role: str, *, rules: bool, planner: Planner, store: Store) -> list[dict[str, Json]]:
    """A checkpoint's responses on all the pair's prompts, as AlpacaEval reads model outputs.

    One object a prompt: ``instruction``, ``output``, ``generator`` (the checkpoint's name) and ``dataset`` (the prompt
    set's). ``rules``: those under the rule adapter. Prompts that were left out are not listed. Raises UsageError where
    the responses are not stored yet or the pair has no such checkpoint.
    """
    ref = pair.checkpoint(role)
    if ref is None:
        raise UsageError(f"pair {pair.name}: {role} is none; the pair names {_roles(pair)}.")
    need = "generation.rules" if rules else "generation"
    rows: list[dict[str, Json]] = []
    for source in pair.prompts:
        prompts = load_prompts(source, pair=pair.name)
        texts = {p.id: p.prompt for p in prompts.prompts}
        rows += [
            {
                "instruction": texts[item.id],
                "output": item.values["response"],
                "generator": f"{ref.name} + rules" if rules else ref.name,
                "dataset": prompts.name,
            }
            for item in _responses(pair, role, need, prompts, planner=planner, store=store)
            if not item.left_out
        ]
    return rows


def _responses(
    pair: ModelPair, role: str, need: str, prompts: PromptSet, *, planner: Planner, store: Store
) -> Sequence[EvidenceItem]:
    """A checkpoint's responses, as they are stored or recorded."""
    task = planner.task(pair, role, need, prompts)
    if task is None:
        found = recorded(pair.roles[role]).items(need, prompts)
        if found is None:
            raise UsageError(f"pair {pair.name}: {role} is recorded evidence, without responses.")
        return tuple(found.values())
    progress = store.status(task.key, task.ids)
    if not progress.complete:
        raise UsageError(
            f"{progress.stored} of {progress.total} responses of {task.ref.name} to {prompts.name} are stored in "
            f"{store.root}. Run `pytest suites` on the pair first, with the same store, dtype and longest response."
        )
    return store.read(task.key).items


def _roles(pair: ModelPair) -> str:
    known: Sequence[str] = ("base", "tuned", *pair.siblings)
    return ", ".join(known)
