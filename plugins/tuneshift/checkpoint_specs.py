"""Checkpoints as options and pair files write them: folders, hub ids, embedded models, adapters, recorded evidence."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .checkpoints.refs import LMBackend, ModelRef
from .config import EMBEDDED, ConfigPlace
from .errors import did_you_mean
from .parse import fault_of_name, shown_name
from .resources import fixture

CHECKPOINT_KEYS: Mapping[str, type] = {
    "model": str,
    "revision": str,
    "adapter": str,
    "dtype": str,
    "device_map": str,
    "trust_remote_code": bool,
    "chat_template": str,
    "backend": str,
    "backend_args": str,
    "evidence": str,
}


DTYPES = ("float64", "float32", "bfloat16", "float16")


HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


LONGEST_HUB_ID = 96
"""Characters that the hub accepts (huggingface_hub.utils.validate_repo_id)."""


WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".json", ".parquet")
"""Suffixes that mark a file. Not every suffix does: Qwen/Qwen2.5-0.5B is a hub id."""


def checkpoint_ref(text: str, label: str) -> ModelRef:
    """The checkpoint that ``text`` names, as in a pair file; messages start with ``label``. Raises PairError."""
    return checkpoint_of(text, ConfigPlace(label=label, folder=Path.cwd()))


def checkpoint_of(value: Any, place: ConfigPlace) -> ModelRef:
    ref = _parsed(value, place)
    if fault := fault_of_name(ref.name):
        place.fail(f"the checkpoint's name {shown_name(ref.name)} {fault}; rename its folder, or name a link to it")
    return ref


def _parsed(value: Any, place: ConfigPlace) -> ModelRef:
    if isinstance(value, str):
        model = _weights(place.typed(value, str), place)
        return ModelRef(name=_short_name(value, model), model=model)
    table = place.table(value, tuple(CHECKPOINT_KEYS))
    for key, item in table.items():
        place.at(key).typed(item, CHECKPOINT_KEYS[key])
    if ("model" in table) == ("evidence" in table):
        got = "both" if "model" in table else "neither"
        place.fail(f"a checkpoint has either 'model' or 'evidence', got {got}")
    if "evidence" in table:
        loading = [key for key in table if key != "evidence"]
        if loading:
            place.fail(f"{loading[0]!r} says how weights are loaded, but recorded evidence has none")
        path = place.at("evidence").existing(table["evidence"], "recorded evidence")
        return ModelRef(name=path.name.removesuffix(".parquet").removesuffix(".attributions"), evidence=path)
    model = _weights(table["model"], place.at("model"))
    if "revision" in table and os.path.isdir(model):
        place.fail(f"'revision' picks a version of a hub id, but {table['model']!r} is a folder")
    if table.get("dtype", "float32") not in DTYPES:
        place.at("dtype").fail(f"{table['dtype']!r} is not a dtype; {did_you_mean(table['dtype'], DTYPES)}")
    if "backend_args" in table and "backend" not in table:
        place.fail("'backend_args' are arguments of a 'backend', which is missing")
    backend = table.get("backend")
    adapter = _weights(table["adapter"], place.at("adapter"), gguf=False) if "adapter" in table else None
    return ModelRef(
        name=_short_name(table["model"], model) if adapter is None else _short_name(table["adapter"], adapter),
        model=model,
        revision=table.get("revision"),
        adapter=adapter,
        dtype=table.get("dtype"),
        device_map=table.get("device_map"),
        trust_remote_code=table.get("trust_remote_code", False),
        chat_template=chat_template(table.get("chat_template"), place.at("chat_template")),
        backend=None if backend is None else LMBackend(name=backend, args=table.get("backend_args", "")),
    )


def _weights(text: str, place: ConfigPlace, *, gguf: bool = True) -> str:
    """A model or adapter: an existing folder's (or GGUF file's) absolute path, or a hub id as it is."""
    if text.startswith(EMBEDDED):
        models = fixture("models")
        known = {folder.parent.relative_to(models).as_posix(): folder.parent for folder in models.rglob("config.json")}
        name = text.removeprefix(EMBEDDED)
        if name not in known:
            place.fail(f"no embedded model {name!r}; {did_you_mean(name, known)}")
        return str(known[name])
    path = place.path(text)
    if os.path.isdir(path):
        return str(path)
    if gguf and path.suffix.lower() == ".gguf" and os.path.isfile(path):
        return str(path)
    if os.path.isfile(path):
        recorded = "; recorded evidence goes under 'evidence' in a pair file" if path.suffix == ".parquet" else ""
        place.fail(f"{text!r} is a file; name the folder that holds the weights and config.json{recorded}")
    near = difflib.get_close_matches(text, _folders_beside(path), cutoff=0.75) if "/" not in text else []
    if near:
        place.fail(
            f"{text!r} is no folder, and {' and '.join(map(repr, near))} beside it looks alike; for the hub id of that "
            "name write org/name"
        )
    if not HUB_ID.fullmatch(text) or text.endswith(WEIGHT_SUFFIXES) or len(text) > LONGEST_HUB_ID:
        place.fail(f"{text!r} is neither a folder (looked at {path}) nor a hub id of the form org/name or name")
    return text


def _folders_beside(path: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in path.parent.iterdir() if entry.is_dir())
    except OSError:
        return []


def chat_template(text: str | None, place: ConfigPlace) -> str | None:
    """A chat format as a file names it: ``none``, a Jinja template, or an existing file's path. Raises PairError."""
    if text is not None:
        place.typed(text, str)
    if text is None or text == "none" or "{{" in text or "{%" in text:
        return text
    return str(place.existing(text, "neither 'none' nor a Jinja template, and as a file"))


def _short_name(text: str, resolved: str) -> str:
    """A checkpoint's name for people: an embedded name or hub id whole, a folder's last part."""
    if text.startswith(EMBEDDED):
        return text.removeprefix(EMBEDDED)
    return text if text == resolved and HUB_ID.fullmatch(text) else Path(resolved).name


def path_parts(text: str) -> list[str]:
    return [part for part in re.split(r"[/\\]", text.removeprefix(EMBEDDED)) if part not in ("", ".", "..", "~")]
