"""A language model's answers on disk: what was answered is asked once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..files import cache_folder, publish
from ..parse import parse_json
from ..plain import Json, digest

Progress = Callable[[int, int], None]
"""(answered so far, all)"""

FORMAT = 1


def answers_folder(cache: Path | None) -> Path:
    """Where answers are kept: ``cache``, by default in the user's cache folder."""
    return cache_folder() / "answers" if cache is None else cache


@dataclass(frozen=True)
class Answers:
    """Answers by the hash of what decides them; ``folder`` may be shared by processes."""

    folder: Path

    def path(self, *question: Json) -> Path:
        """Where the answer to a question is kept: ``question`` holds all that decides it, the model's identity too."""
        key = digest([FORMAT, *question])
        return self.folder / key[:2] / f"{key}.json"

    def read(self, path: Path) -> str | None:
        """The kept answer; None where there is none or the entry is damaged, and it is then made anew."""
        try:
            entry = parse_json(path.read_bytes())
        except (OSError, ValueError):
            return None
        whole = isinstance(entry, dict) and entry.get("key") == path.stem and isinstance(entry.get("answer"), str)
        return str(entry["answer"]) if whole else None

    def keep(self, path: Path, answer: str, **asked: Json) -> None:
        """Write an answer, whole or not at all; ``asked`` tells a reader of the file what was asked. Raises OSError."""
        entry: Mapping[str, Json] = {"format": FORMAT, "key": path.stem, **asked, "answer": answer}
        data = json.dumps(entry, ensure_ascii=False, indent=1).encode(errors="backslashreplace")
        path.parent.mkdir(parents=True, exist_ok=True)
        publish(path, data)
