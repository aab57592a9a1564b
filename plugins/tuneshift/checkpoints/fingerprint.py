"""What a checkpoint is, without loading its weights: the fingerprint of its content, and its tokenizer."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..files import publish
from ..parse import parse_json
from ..plain import digest, seal
from .files import headers, locate, locate_adapter, read_json, tokenizer_folder, weight_files
from .refs import ModelRef

# Fields that say where a thing came from, how it is stored or how it is asked, and leave the computation alone. Fields
# not named here count: the worst that an unknown one can do is to have a measure taken once more.
_BOOKKEEPING = frozenset(
    {
        "_name_or_path",
        "name_or_path",
        "transformers_version",
        "transformers.js_config",
        "torch_dtype",
        "dtype",
        "architectures",
        "use_cache",
        "return_dict",
        "output_attentions",
        "output_hidden_states",
        "attn_implementation",
        "_attn_implementation_autoset",
        "gradient_checkpointing",
        "id2label",
        "label2id",
        "problem_type",
        "finetuning_task",
        "task_specific_params",
        "unsloth_version",
        "chat_template",
        "model_max_length",
        "padding_side",
        "truncation_side",
        "processor_class",
        "tokenizer_file",
        "is_local",
        "backend",
        "local_files_only",
        "base_model_name_or_path",
        "inference_mode",
        "revision",
        "auto_mapping",
        "peft_version",
        "use_auth_token",
    }
)
_MERGE = 2
"""How an adapter is merged (`adapters.merged`); 1 changed another matrix too where embeddings are tied."""
_BAR_FROM = 2 * 2**30
_CHUNK = 8 * 2**20


def fingerprint(ref: ModelRef, *, memo: Path | None = None) -> str:
    """SHA-256 over what a checkpoint computes, as 64 hexadecimal digits.

    Hashed are the bytes, type, shape and name of every tensor; the configuration and the tokenizer without bookkeeping
    fields; the end tokens of the generation configuration, because they decide where a response ends; a PEFT
    adapter's tensors and configuration; and the folder's Python files where remote code is trusted (code that
    ``auto_map`` takes from another repository is known by its name alone). Left out are paths, file
    dates, how tensors are spread over files, the chat template (a parameter of each measure) and the loading dtype.

    ``memo`` names a JSON file that remembers the hashes of a weight file by its path, device, inode, size, and times of
    modification and of change (``cp -p`` sets the former back, nothing the latter), so that 14 GB are not read anew in
    every run. Entries are sealed; one that does not verify is dropped and the file read.
    ``memo=None`` always reads. Raises as `locate` and `weight_files`.
    """
    folder, adapter = locate(ref), locate_adapter(ref)
    files = weight_files(folder)
    adapter_files = () if adapter is None else weight_files(adapter, "adapter_model")
    hashes = _file_hashes((*files, *adapter_files), memo)
    generation = folder / "generation_config.json"
    code = sorted(folder.glob("*.py")) if ref.trust_remote_code else []
    parts: dict[str, Any] = {
        "tensors": sorted(entry for file in files for entry in hashes[file]),
        "config": _computing(read_json(folder / "config.json")),
        "end": read_json(generation).get("eos_token_id") if generation.is_file() else None,
        "tokenizer": _tokenizer_content(tokenizer_folder(ref)),
        "code": [[file.name, _sha256(file)] for file in code],
    }
    if adapter is not None:
        parts["merge"] = _MERGE
        parts["adapter"] = sorted(entry for file in adapter_files for entry in hashes[file])
        parts["adapter_config"] = _computing(read_json(adapter / "adapter_config.json"))
    return digest(parts)


def _file_hashes(files: Sequence[Path], memo: Path | None) -> dict[Path, list[str]]:
    from tqdm import tqdm

    known = _remembered(memo)
    stamps = {file: _stamp(file) for file in files}
    hashes = {file: known[key][1] for file, (key, stamp) in stamps.items() if key in known and known[key][0] == stamp}
    unread = [file for file in files if file not in hashes]
    total = sum(file.stat().st_size for file in unread)
    # None: silent where standard error is no terminal, as in CI logs.
    with tqdm(
        total=total, desc="fingerprint", unit="B", unit_scale=True, disable=None if total > _BAR_FROM else True
    ) as bar:
        for file in unread:
            hashes[file] = list(_tensor_hashes(file, bar.update))
    if memo is not None and unread:
        _remember(memo, {stamps[file][0]: _sealed(*stamps[file], hashes[file]) for file in unread})
    return hashes


def _tensor_hashes(file: Path, advance: Any) -> Iterator[str]:
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    with file.open("rb", buffering=0) as stream:
        for tensor in headers(file):
            content, left = hashlib.sha256(), tensor.end - tensor.start
            stream.seek(tensor.start)
            while left:
                count = stream.readinto(view[: min(left, _CHUNK)])
                if not count:
                    raise CheckpointError(f"{file} became shorter while it was read; is it still being written?")
                content.update(view[:count])
                left -= count
                advance(count)
            yield digest([tensor.name, tensor.dtype, list(tensor.shape), content.hexdigest()])


def _stamp(file: Path) -> tuple[str, list[int]]:
    real = file.resolve()
    status = real.stat()
    return str(real), [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _sealed(path: str, stamp: list[int], hashes: list[str]) -> list[Any]:
    """An entry of the memo: stamp, hashes, and a seal over both and the path that they belong to."""
    return [stamp, hashes, seal([path, stamp, hashes])]


def _remembered(memo: Path | None) -> dict[str, Any]:
    """The memo's entries whose seal holds; a missing, damaged or foreign memo costs time, not truth."""
    if memo is None:
        return {}
    try:
        value = parse_json(memo.read_bytes())
    except (OSError, ValueError):
        return {}
    entries = value.items() if isinstance(value, dict) else ()
    return {
        key: entry
        for key, entry in entries
        if isinstance(entry, list) and len(entry) == 3 and entry == _sealed(key, entry[0], entry[1])
    }


def _remember(memo: Path, entries: Mapping[str, Any]) -> None:
    """Merges entries into the memo at once, so that a reader sees the old or the new file."""
    with contextlib.suppress(OSError):  # a memo that cannot be written only costs the next run's time
        memo.parent.mkdir(parents=True, exist_ok=True)
        publish(memo, json.dumps({**_remembered(memo), **entries}).encode())


def _computing(value: Any) -> Any:
    """A configuration without its bookkeeping fields, at every depth."""
    if isinstance(value, dict):
        return {key: _computing(entry) for key, entry in value.items() if key not in _BOOKKEEPING}
    return [_computing(entry) for entry in value] if isinstance(value, list) else value


def _tokenizer_content(folder: Path) -> dict[str, Any]:
    """What decides a tokenizer's ids: tokenizer.json, else the files that it is built from, and special tokens."""
    fast = folder / "tokenizer.json"
    slow = [folder / name for name in ("tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt")]
    names = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
    return {
        "vocabulary": read_json(fast) if fast.is_file() else [[f.name, _sha256(f)] for f in slow if f.is_file()],
        "special": {name: _computing(read_json(folder / name)) for name in names if (folder / name).is_file()},
    }


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
