"""The tokens that end a checkpoint's responses, as its configurations and its tokenizer name them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .files import locate
from .quiet import quiet
from .refs import ModelRef


def end_tokens(owners: Iterable[Any]) -> list[int]:
    """Ids that end a response: those of any of the owners (configurations, tokenizer), ascending."""
    found: set[int] = set()
    for owner in owners:
        value = getattr(owner, "eos_token_id", None)
        found |= set(value) if isinstance(value, (list, tuple)) else set() if value is None else {int(value)}
    return sorted(found)


def own_ends(ref: ModelRef, tokenizer: Any) -> list[int]:
    """Ids that end a checkpoint's responses by itself, ascending; its weights stay on disk.

    Those of the generation configuration, which is where chat formats put theirs, of the tokenizer and of the model's
    configuration. Raises as `locate`.
    """
    import transformers

    folder = locate(ref)
    with quiet():
        config: Any = transformers.AutoConfig
        model = config.from_pretrained(folder, local_files_only=True, trust_remote_code=ref.trust_remote_code)
        owners = [model.get_text_config(), tokenizer]
        if (folder / "generation_config.json").is_file():
            owners.append(transformers.GenerationConfig.from_pretrained(folder, local_files_only=True))
    return end_tokens(owners)
