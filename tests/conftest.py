"""Fixtures of tuneshift's own tests."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ``../shared`` with published evidence; CI sets TUNESHIFT_REQUIRE_SHARED so that it cannot be
    missed."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "published").is_dir():
        message = f"{folder}/published is not here: it holds the published evidence that this test reads"
        if os.environ.get("TUNESHIFT_REQUIRE_SHARED"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny models run faster on one thread, and two workers then do not fight over two cores."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _in_order() -> None:
    """pytest-randomly, installed for tests/plugin/test_third_party.py alone, would shuffle the runs inside tests."""
    os.environ["PYTEST_ADDOPTS"] = "-p no:randomly"


ROOT = Path(__file__).resolve().parents[1]
OF_TOOLS = {
    ".git", ".venv", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", "build", "dist",
    "site",
}  # fmt: skip
"""Folders of the checkout that tools write while tests run."""
OF_RUNS = ("tuneshift-results", ".tuneshift")
"""Folders that a user's own runs have there: a test that writes into them destroys somebody's work."""


def files_of_the_checkout() -> dict[str, float | None]:
    """Every file below the checkout that no tool writes; when it was changed, for what a user's runs have written."""
    found: dict[str, float | None] = {}
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in OF_TOOLS and not name.endswith(".egg-info")]
        inner = Path(folder).relative_to(ROOT)
        of_runs = bool(inner.parts) and inner.parts[0] in OF_RUNS
        for name in files:
            path = Path(folder, name)
            if not name.startswith(".coverage") and path.exists():
                found[str(inner / name)] = path.stat().st_mtime if of_runs else None
    return found


@pytest.fixture(scope="session", autouse=True)
def _tests_write_below_their_temporary_folder() -> Iterator[None]:
    """No test of the session leaves a file in the checkout or changes what the user's runs wrote there."""
    before = files_of_the_checkout()
    yield
    after = files_of_the_checkout()
    written = sorted(path for path, changed in after.items() if path not in before or before[path] != changed)
    assert not written, f"tests wrote into the checkout: {', '.join(written[:20])}"


@pytest.fixture
def double() -> Iterator[None]:
    """torch computes in double precision wherever it is asked for float32: ``model.float()`` is float64 then."""
    from tolerances import DoubleThroughout

    with DoubleThroughout():
        yield


Maker = Callable[..., Path]

TEMPLATE = "{% for m in messages %}<u>{{ m['content'] }}</u>{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Save a random Llama with a byte tokenizer: ``make_checkpoint(name, seed=..., template=..., width=...)``."""

    def make(
        name: str, *, seed: int = 0, template: str | None = None, extra_tokens: Sequence[str] = (), width: int = 16
    ) -> Path:
        import torch
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers
        from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        words = ["<end>", "<u>", "</u>", "<a>", *alphabet]
        backend = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=[]))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=backend, eos_token="<end>", pad_token="<end>", additional_special_tokens=words[1:4]
        )
        tokenizer.add_tokens(list(extra_tokens))
        tokenizer.chat_template = template
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=96, eos_token_id=0, pad_token_id=0,
            bos_token_id=None, initializer_range=0.4,
        )  # fmt: skip
        folder = tmp_path_factory.mktemp(name, numbered=True) / name
        LlamaForCausalLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_base(make_checkpoint: Maker) -> Path:
    """A random base checkpoint."""
    return make_checkpoint("tiny-base", seed=1)


@pytest.fixture(scope="session")
def tiny_tuned(make_checkpoint: Maker) -> Path:
    """A random "tuned" checkpoint: other weights, same tokenizer."""
    return make_checkpoint("tiny-tuned", seed=2)


COLOURS = ("red", "blue", "green", "black", "white", "brown", "pink", "grey", "gold", "teal")


@pytest.fixture(scope="session")
def tiny_prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty prompts of 40 to 50 bytes in ten clusters, with references and verifiers."""
    path = tmp_path_factory.mktemp("prompts") / "tiny.jsonl"
    rows = []
    for i, word in enumerate(COLOURS * 2):
        instruction = "Name the colour." if i < len(COLOURS) else "Say the colour now."
        text = f"{instruction} The box is {word}, and old."
        rows.append(
            {
                "id": f"p{i:02}",
                "prompt": text,
                "instruction_spans": [[0, len(instruction)]],
                "reference": word,
                "cluster": word,
                "verify": {"kind": "exact", "answers": [word]},
            }
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def tiny_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A word space of instruction verbs and frequent words in five directions, so that many words are similar."""
    import numpy as np

    from tuneshift.words.vocabulary import instruction_verbs, load_vocabulary

    words = list(dict.fromkeys([*instruction_verbs()[:20], *load_vocabulary("300").words]))
    rng = np.random.default_rng(0)
    vectors = np.eye(5)[rng.integers(5, size=len(words))] + 0.1 * rng.normal(size=(len(words), 5))
    path = tmp_path_factory.mktemp("words") / "words.npz"
    np.savez(path, words=np.array(words), vectors=vectors.astype(np.float32))
    return path
