"""What the siblings are tuned on, and the held-out prompts that they are measured on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from .tasks import TASKS, Exercise, Workbook


def tuning_exercises(book: Workbook, count: int, *, seed: int, tasks: Sequence[str] = ()) -> list[Exercise]:
    """``count`` exercises on keys and phrasings that are open to tuning, the task types in turn."""
    rng = Random(f"tuning-{seed}")
    names = list(tasks or TASKS)
    return [
        book.exercise(task, rng.choice(book.keys[task][0]), rng, book.wordings[task].phrasings)
        for task in (names[i % len(names)] for i in range(count))
    ]


def exercise_lines(exercises: Iterable[Exercise]) -> list[str]:
    """JSONL lines in a form that `tuneshift tune` takes."""
    rows = ({"prompt": e.prompt, "response": e.answer, "task": e.task} for e in exercises)
    return [json.dumps(row, ensure_ascii=False) for row in rows]


def held_out_exercises(book: Workbook, per_task: int, *, seed: int) -> list[Exercise]:
    """``per_task`` exercises of every type on held-out keys in held-out phrasings; keys differ as far as they can."""
    rng = Random(f"held-out-{seed}")
    used: set[str] = set()
    found = []
    for task in TASKS:
        keys = list(book.keys[task][1])
        rng.shuffle(keys)
        keys.sort(key=lambda key: key in used)
        for i, key in enumerate(keys[:per_task]):
            used.add(key)
            phrasings = book.wordings[task].held_out
            found.append(book.exercise(task, key, rng, phrasings[i % len(phrasings) :][:1]))
    return found


def prompt_lines(exercises: Iterable[Exercise]) -> list[str]:
    """JSONL lines of a prompt set. The cluster is the task, of which the set is a sample; the topic is the key."""
    lines = []
    counts: dict[str, int] = {}
    for exercise in exercises:
        counts[exercise.task] = counts.get(exercise.task, 0) + 1
        row = {
            "id": f"{exercise.task}-{counts[exercise.task]:02d}",
            "prompt": exercise.prompt,
            "instruction_spans": [list(span) for span in exercise.instruction_spans],
            "reference": exercise.answer,
            "cluster": exercise.task,
            "topic": exercise.key,
            "task": exercise.task,
            "verify": exercise.verify,
        }
        lines.append(json.dumps(row, ensure_ascii=False))
    return lines


def read_prompts(path: Path) -> list[dict[str, Any]]:
    """Rows of a prompt set that this module wrote."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def chat_ids(tokenizer: Any, prompt: str) -> list[int]:
    """Token ids of a user's text in the tuned format, up to where the response begins."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def response_ids(tokenizer: Any, response: str) -> list[int]:
    """Token ids of a response with the EOS token."""
    return [*tokenizer(response, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
