"""Where a checkpoint's files lie and whether they are whole; reads headers, never weights."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, PairError, counted
from ..parse import MalformedError, parse_json
from ..resources import fixture
from .gguf import converted, gguf_file
from .refs import ModelRef

EMBEDDED = "embedded:"
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_NO_WEIGHTS = ("training_args", "optimizer", "scheduler", "scaler", "rng_state")
# Weights, configuration and tokenizer; never a pickle (decision 9).
_WANTED = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "tokenizer.model",
    "spiece.model",
    "*.tiktoken",
    "vocab.txt",
    "merges.txt",
)
# The same weights once more, in other formats or precisions.
_UNWANTED = ("*/*", "consolidated*", "model.fp16*", "model.fp32*", "model.bf16*")
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
    "tokenizer_config.json",
)
_CONVERT = (
    "tuneshift loads safetensors only, because a pickle runs code when it is opened. If you trust the file, convert it "
    "once: `AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(OUT)` with transformers, save the tokenizer "
    "to OUT as well, and name OUT."
)


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One tensor of a safetensors file: stored type (``F32``, ``BF16`` ...), shape and byte range in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def locate(ref: ModelRef) -> Path:
    """Folder that holds the checkpoint's files: a local one, an embedded one, or the hub's, downloaded at first use.

    A GGUF file, or a folder with one and no other weights, is turned into such a folder at first use (`converted`).

    A hub id is contacted only where no local folder of that name exists, and not at all under ``HF_HUB_OFFLINE``; the
    answer holds for the whole process, so a branch that moves on the hub cannot mix two states. Raises PairError for a
    path that does not exist, a file, or recorded evidence; CheckpointError for an id that cannot be had.
    """
    if ref.model is None:
        raise PairError(f"Checkpoint {ref.name!r} is recorded evidence without weights; give `model` to load it.")
    if ref.revision is None and (file := gguf_file(Path(ref.model).expanduser())) is not None:
        return converted(file)
    return _locate(ref.model, ref.revision, ref.trust_remote_code, ref.name)


def locate_adapter(ref: ModelRef) -> Path | None:
    """Folder of the checkpoint's PEFT adapter (a path or a hub id), or None where it has none. Raises as `locate`."""
    return None if ref.adapter is None else _locate(ref.adapter, None, False, f"{ref.name}, adapter")


def tokenizer_folder(ref: ModelRef) -> Path:
    """The adapter's folder where it brings its own tokenizer, as PEFT tuning often saves it, else the model's."""
    adapter = locate_adapter(ref)
    if adapter is not None and _has_tokenizer(adapter):
        return adapter
    folder = locate(ref)
    if not _has_tokenizer(folder):
        raise CheckpointError(
            f"{folder} holds no tokenizer (none of {', '.join(_TOKENIZER_FILES)}). Save the checkpoint's tokenizer "
            "there with `tokenizer.save_pretrained(folder)`."
        )
    return folder


def weight_files(folder: Path, stem: str = "model") -> tuple[Path, ...]:
    """The safetensors files that transformers would load from a folder (for an adapter: ``stem="adapter_model"``).

    Raises CheckpointError where there are none (naming the pickles that there are), where the index of a
    sharded checkpoint names files that are missing, and where a file is truncated or no safetensors file at all.
    """
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if single.is_file():
        files: tuple[Path, ...] = (single,)
    elif index.is_file():
        files = _shards(folder, index)
    else:
        raise CheckpointError(_no_weights(folder, stem))
    for file in files:
        headers(file)
    return files


def headers(file: Path) -> tuple[Tensor, ...]:
    """The tensors that a safetensors file declares, by byte order. Raises CheckpointError for a damaged file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np"):  # checks the header, that ranges are gapless, and the file's length
            pass
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            declared = parse_json(stream.read(length))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(_damaged(file, error)) from error
    offset = 8 + length
    tensors = [
        Tensor(
            name=name,
            dtype=entry["dtype"],
            shape=tuple(entry["shape"]),
            start=offset + entry["data_offsets"][0],
            end=offset + entry["data_offsets"][1],
        )
        for name, entry in declared.items()
        if name != "__metadata__"
    ]
    return tuple(sorted(tensors, key=lambda tensor: (tensor.start, tensor.name)))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, with NaN and infinities as strings. Raises CheckpointError naming file and line."""
    try:
        value = parse_json(path.read_bytes(), constant=str)
    except (OSError, MalformedError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object, got a {type(value).__name__}.")
    return value


def _locate(model: str, revision: str | None, code: bool, name: str) -> Path:
    if model.startswith(EMBEDDED):
        folder = fixture(f"models/{model.removeprefix(EMBEDDED)}")
        if not os.path.isdir(folder):
            raise PairError(f"Checkpoint {name!r}: no embedded model {model!r}. {_embedded()}")
        return folder
    path = Path(model).expanduser()
    if os.path.isdir(path):  # unlike Path.is_dir, False for a name too long for the file system
        if revision is not None:
            raise PairError(f"Checkpoint {name!r}: {model} is a local folder, which has no revision {revision!r}.")
        return path
    if path.suffix.lower() == ".gguf":
        raise CheckpointError(f"Checkpoint {name!r}: {model} is no GGUF file of a whole model that lies here.")
    if os.path.exists(path):
        raise PairError(f"Checkpoint {name!r}: {model} is a file; name the folder that holds it.")
    near = difflib.get_close_matches(path.name, _names(path.parent), n=5, cutoff=0.75)
    # A mistyped local path has the form of a hub id too: what lies beside it decides, unless a revision says hub.
    local = bool(near) or (path.parent != Path(".") and os.path.isdir(path.parent))
    if _HUB_ID.fullmatch(model) and not model.startswith(".") and (revision is not None or not local):
        return _download(model, revision, code)
    hint = f"Near it: {', '.join(str(path.parent / other) for other in near)}." if near else _around(path)
    hub = " For the hub id of that name, give a `revision`." if _HUB_ID.fullmatch(model) else ""
    raise PairError(
        f"Checkpoint {name!r}: {model} does not exist. {hint} A checkpoint is a folder with config.json and "
        f"safetensors weights, a hub id such as ORGANISATION/NAME, or {EMBEDDED}FAMILY/NAME.{hub}"
    )


@cache
def _download(model: str, revision: str | None, code: bool) -> Path:
    from huggingface_hub import snapshot_download

    wanted = (*_WANTED, "*.py") if code else _WANTED
    try:
        return Path(
            snapshot_download(model, revision=revision, allow_patterns=list(wanted), ignore_patterns=list(_UNWANTED))
        )
    except (OSError, ValueError) as error:  # the hub's errors are all one of these two
        reason = (str(error).strip().splitlines() or [""])[0]
        version = "" if revision is None else f" at revision {revision!r}"
        raise CheckpointError(
            f"{model!r}{version} is no folder here and cannot be had from the Hugging Face hub "
            f"({type(error).__name__}: {reason}). Check the id and the network, log in with `hf auth login` for a "
            "gated model, or give the path of a local folder: that works without the hub."
        ) from error


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    except OSError:
        return []


def _around(path: Path) -> str:
    parent = next((folder for folder in path.parents if os.path.isdir(folder)), Path("."))
    names = _names(parent)
    shown = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
    return f"{parent} holds the folders {shown}." if names else f"{parent} holds no folders."


def _embedded() -> str:
    root = fixture("models")
    names = sorted(f"{EMBEDDED}{path.parent.relative_to(root).as_posix()}" for path in root.rglob("config.json"))
    return f"There are: {', '.join(names)}." if names else "This installation ships none."


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _TOKENIZER_FILES)


def _no_weights(folder: Path, stem: str) -> str:
    pickles = sorted(
        file.name for pattern in _PICKLES for file in folder.glob(pattern) if not file.name.startswith(_NO_WEIGHTS)
    )
    strays = sorted(file.name for file in folder.glob("*.safetensors"))
    expected = f"{stem}.safetensors or {stem}.safetensors.index.json"
    if pickles:
        return f"{folder} holds pickled weights only ({', '.join(pickles[:3])}). {_CONVERT}"
    if strays:
        return f"{folder} holds {', '.join(strays[:3])} but not {expected}, by which transformers finds its weights."
    return f"{folder} holds no weights: expected {expected} (pickled weights are never downloaded nor read)."


def _shards(folder: Path, index: Path) -> tuple[Path, ...]:
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise CheckpointError(f"{index} has no `weight_map` from tensor to file; download the checkpoint anew.")
    for tensor, name in listed.items():
        if not isinstance(name, str) or not name or os.path.basename(name) != name:
            raise CheckpointError(f"{index}: the file of {tensor!r} is a file's name, got {name!r:.80}.")
    names = sorted(set(listed.values()))
    missing = [name for name in names if not os.path.isfile(folder / name)]
    if missing:
        raise CheckpointError(
            f"{index} names {len(names)} files, of which {len(missing)} are missing: {', '.join(missing[:5])}. "
            "Copy or download the checkpoint completely."
        )
    files = tuple(folder / name for name in names)
    stored = {tensor.name for file in files for tensor in headers(file)}
    lost = sorted(set(listed) - stored)
    if lost:
        raise CheckpointError(
            f"{index} lists {counted(len(lost), 'tensor')} that its files do not hold: {', '.join(lost[:5])}."
        )
    return files


def _damaged(file: Path, error: Exception) -> str:
    size = file.stat().st_size if file.exists() else 0
    with file.open("rb") as stream:
        if stream.read(20) == b"version https://git-":
            return f"{file} is a Git LFS pointer, not the weights; run `git lfs pull` in its repository."
    return f"{file} ({size} bytes) is truncated or no safetensors file ({error}); copy or download it anew."
