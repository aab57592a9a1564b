"""Values of a user's TOML, checked, with messages that name the place."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from .errors import PairError, did_you_mean

EMBEDDED = "embedded:"


@dataclass(frozen=True, kw_only=True)
class ConfigPlace:
    """Where a value was written: the label that messages start with, and the folder of relative paths."""

    label: str
    folder: Path

    def fail(self, message: str) -> NoReturn:
        raise PairError(f"{self.label}: {message}.")

    def at(self, key: str) -> ConfigPlace:
        return replace(self, label=f"{self.label}, {key}")

    def path(self, text: str) -> Path:
        """``text`` as an absolute path, whether or not it exists."""
        expanded = os.path.expanduser(os.path.expandvars(text))
        unset = re.search(r"\$\{?(\w+)", expanded)
        if unset:
            self.fail(f"environment variable {unset[1]} in {text!r} is not set")
        return Path(os.path.abspath(self.folder / expanded))

    def existing(self, text: str, what: str) -> Path:
        path = self.path(text)
        if not os.path.exists(path):  # unlike Path.exists, False for a name too long for the file system
            self.fail(f"{what} {text!r} does not exist (looked at {path})")
        return path

    def typed(self, value: Any, kind: type) -> Any:
        if not isinstance(value, kind):
            self.fail(f"a {toml_name(kind)} is wanted, got {toml_name(type(value))} {value!r}")
        if value == "":
            self.fail("the string is empty")
        return value

    def table(self, value: Any, known: Sequence[str]) -> dict[str, Any]:
        """A table all of whose keys are known."""
        self.typed(value, dict)
        for key in value:
            if key not in known:
                self.fail(f"unknown key {key!r}; {did_you_mean(key, known)}")
        return dict(value)


def toml_name(kind: type) -> str:
    return {str: "string", bool: "boolean", dict: "table", list: "list", int: "integer"}.get(kind, kind.__name__)
