"""What was read of small files, remembered on disk by their content.

Configurations and tokenizers are read through transformers, which brings torch into the process: seconds in a run that
finds all its evidence in the store. So do lists of verbs, which a dictionary is searched for.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from .files import publish
from .parse import parse_json
from .plain import Json, digest, seal

TOKENIZER_FILES = (".json", ".jinja", ".model", ".txt", ".tiktoken", ".spm", ".bpe", ".vocab", ".py")
"""Ends of the names of files that a tokenizer is made of."""
READERS = ("transformers", "tokenizers", "jinja2")
"""Packages whose version may change what is read of a checkpoint."""

version = cache(metadata.version)
"""An installed package's version, read once a process."""


@dataclass(frozen=True)
class Readings:
    """A JSON file of readings; ``path`` None remembers nothing. What is damaged or foreign counts as not there."""

    path: Path | None = None

    def read(self, content: Json, make: Callable[[], Json], packages: Sequence[str] = READERS) -> Json:
        """What ``make`` gives, a JSON value, remembered by ``content``, its own code and the versions of ``packages``.

        What it raises is raised, and not remembered.
        """
        if self.path is None:
            return make()
        code = hashlib.sha256(Path(make.__code__.co_filename).read_bytes()).hexdigest()
        key = digest([make.__qualname__, code, {name: version(name) for name in packages}, content])
        known = self._known()
        if key not in known:
            made = make()
            # a reading that cannot be kept only costs the next run's time
            with contextlib.suppress(OSError):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                publish(self.path, json.dumps({**self._known(), key: _sealed(key, made)}).encode())
            return made
        return known[key][0]

    def _known(self) -> Mapping[str, Json]:
        """The file's entries whose seal holds."""
        assert self.path is not None
        try:
            value = parse_json(self.path.read_bytes())
        except (OSError, ValueError):
            return {}
        entries = value.items() if isinstance(value, dict) else ()
        return {key: e for key, e in entries if isinstance(e, list) and len(e) == 2 and e == _sealed(key, e[0])}


def _sealed(key: str, made: Json) -> list[Json]:
    return [made, seal([key, made])]


def tokenizer_content(folder: Path) -> str:
    """Hash over names and bytes of all files in a checkpoint's folder that its tokenizer may be made of."""
    places = (folder, folder / "additional_chat_templates")
    found = sorted(file for place in places for file in place.glob("*") if file.suffix in TOKENIZER_FILES)
    return digest([[str(file.relative_to(folder)), hashlib.sha256(file.read_bytes()).hexdigest()] for file in found])
