"""GGUF files as checkpoints: turned once into safetensors in the user's cache, with the file's tokenizer and template.

transformers reads the architecture, the tokenizer and the template from the file and works the quantised numbers out;
what it makes is an ordinary folder, so that nothing after this module knows of GGUF.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from ..errors import CheckpointError
from ..files import acquired_lock, cache_folder
from ..parse import parse_json
from ..plain import digest
from .quiet import bars_on_terminals_only, first_line, quiet

SUFFIX = ".gguf"
_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$", re.IGNORECASE)
_OTHER_WEIGHTS = ("config.json", "model.safetensors", "model.safetensors.index.json")


def gguf_file(path: Path) -> Path | None:
    """The GGUF file that a path names: the file itself, or the only one of a folder that holds no other weights.

    Raises CheckpointError for a folder with several, and for one part of a file that was cut.
    """
    if path.suffix.lower() == SUFFIX and os.path.isfile(path):
        found = [path]
    elif os.path.isdir(path) and not any((path / name).exists() for name in _OTHER_WEIGHTS):
        found = sorted(file for file in path.iterdir() if file.suffix.lower() == SUFFIX)
    else:
        return None
    parts = [_PART.search(file.name) for file in found]
    if found and parts[0] and all(parts):
        raise CheckpointError(
            f"{found[0]} is one of {int(parts[0][1])} parts of a GGUF file; put them together with llama.cpp's "
            "`llama-gguf-split --merge` and name the whole file."
        )
    if len(found) > 1:
        names = ", ".join(file.name for file in found[:6]) + (" ..." if len(found) > 6 else "")
        raise CheckpointError(f"{path} holds {len(found)} GGUF files ({names}); name one of them: --tuned={found[0]}")
    return found[0] if found else None


def converted(file: Path) -> Path:
    """A folder in the user's cache with the file's weights as float32 safetensors, its tokenizer and its template.

    Made once for a file (by path, size and time), a version of transformers and one of gguf; four bytes a parameter.
    Processes that want the same file wait for the one that makes it. Raises CheckpointError where the package ``gguf``
    is missing, where transformers does not know the file's architecture or cannot read it, and for a full disk.
    """
    if find_spec("gguf") is None:
        raise CheckpointError(
            f"{file} is GGUF, which the package `gguf` reads; run: pip install 'tuneshift[gguf]' (or pip install gguf)."
        )
    state = file.stat()
    named = digest([str(file.resolve()), state.st_size, state.st_mtime_ns, version("transformers"), _reader()])
    folder = cache_folder() / "gguf" / f"{file.stem}-{named[:16]}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = acquired_lock(folder.with_name(f".{folder.name}.lock"), timeout=-1)
        try:
            if not folder.is_dir():
                _convert(file, folder)
        finally:
            lock.release()
    except OSError as error:
        raise CheckpointError(
            f"{file} cannot be turned into safetensors in {folder.parent} ({first_line(error)}); it takes about four "
            "bytes a parameter. Make room there, or point XDG_CACHE_HOME at another disk."
        ) from error
    return folder


def _reader() -> str:
    try:
        return version("gguf")
    except PackageNotFoundError:  # a copy on the path and not installed
        return "unknown"


def _convert(file: Path, folder: Path) -> None:
    """Write the folder beside its place, then let it take it: what a dead process left half made is no cache."""
    making = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _save(file, making)
        making.rename(folder)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise


def _save(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with quiet(), bars_on_terminals_only():
            # Before the weights: what is wrong with a file shows here in a second.
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
            model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged file makes of transformers and gguf
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise CheckpointError(
            f"{file} cannot be read as GGUF ({first_line(error)}). Either it is damaged, and is to be copied anew, or "
            "transformers does not know its architecture: then convert the original checkpoint."
        ) from error
    # The numbers are plain now; what says that they were not would keep them from being saved and read.
    vars(model).pop("hf_quantizer", None)
    vars(model.config).pop("quantization_config", None)
    with quiet():
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)
    _drop_invented(folder, int(model.config.vocab_size))


def _drop_invented(folder: Path, rows: int) -> None:
    """Take out of the saved tokenizer what its class brings along though the file has no such token (GPT-2's
    ``<|endoftext|>`` for a Llama 3): it would have no row in the embedding."""
    path, settings = folder / "tokenizer.json", folder / "tokenizer_config.json"
    saved, said = parse_json(path.read_bytes()), parse_json(settings.read_bytes())
    invented = {token["content"] for token in saved.get("added_tokens", ()) if token["id"] >= rows}
    if not invented:
        return
    saved["added_tokens"] = [token for token in saved["added_tokens"] if token["content"] not in invented]
    path.write_text(json.dumps(saved, ensure_ascii=False))
    kept = {key: value for key, value in said.items() if not (isinstance(value, str) and value in invented)}
    settings.write_text(json.dumps(kept, ensure_ascii=False))
