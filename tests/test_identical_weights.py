"""The A/A table: identical weights, saved under other configurations, against each finding. Every effect is exactly 0.

Each row's checkpoint has a field of its own in its configuration, so that its fingerprint is another one and nothing is
shared with the plain checkpoint: what is the same was measured twice. The table stands in docs/statistics.md.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tuneshift import ModelPair, ModelRef, run
from tuneshift.checkpoints import scoring
from tuneshift.claims.catalogue import findings
from tuneshift.measures import generation
from tuneshift.measures.attribution import backend as attribution
from tuneshift.pairs import SingleTask

TEMPLATE = "{% for m in messages %}<u>{{ m['content'] }}</u>{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
END, END_OF_TURN = 0, 2
"""``<end>``, which the checkpoint names, and ``</u>``, which the template writes after the assistant's turn."""
DOCS = Path(__file__).parents[1] / "docs" / "statistics.md"


def edit(path: Path, **fields: Any) -> None:
    value = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**value, **fields}))


def ends(folder: Path) -> None:
    edit(folder / "generation_config.json", eos_token_id=[END, END_OF_TURN])


def template_file(folder: Path) -> None:
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    edit(folder / "tokenizer_config.json", chat_template=template)


def no_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def sampling(folder: Path) -> None:
    edit(
        folder / "generation_config.json", do_sample=True, temperature=0.3, top_p=0.5, repetition_penalty=1.7,
        max_length=9, min_new_tokens=5, suppress_tokens=[20, 21], num_beams=2, forced_eos_token_id=END,
    )  # fmt: skip


def no_generation_config(folder: Path) -> None:
    (folder / "generation_config.json").unlink()


def shards(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    where = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in set(where.values()):
        held = {name: tensors[name] for name in where if where[name] == file}
        save_file(held, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def stored_in(dtype: torch.dtype) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        save_file({n: t.to(dtype) for n, t in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"})
        edit(folder / "config.json", dtype=str(dtype).removeprefix("torch."))

    return change


def tokenizer_files(folder: Path) -> None:
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    edit(
        folder / "tokenizer_config.json",
        clean_up_tokenization_spaces=True,
        model_max_length=50,
        split_special_tokens=False,
    )


def padding(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", padding_side="right", truncation_side="left", pad_token="<a>")
    edit(folder / "config.json", pad_token_id=3)


def zero_adapter(folder: Path) -> None:
    import peft
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "lm_head", "embed_tokens"], task_type="CAUSAL_LM")
    peft.get_peft_model(model, config).save_pretrained(folder / "adapter")


def nothing(folder: Path) -> None:
    """Another path and name."""


ROWS: dict[str, Callable[[Path], None]] = {
    "another folder": nothing,
    "end tokens": ends,
    "template in tokenizer_config.json": template_file,
    "no template": no_template,
    "generation configuration": sampling,
    "no generation configuration": no_generation_config,
    "shards": shards,
    "stored in bfloat16": stored_in(torch.bfloat16),
    "stored in float64": stored_in(torch.float64),
    "tokenizer files": tokenizer_files,
    "padding": padding,
    "batches of 3": nothing,
    "adapter with zero weights": zero_adapter,
}
FIRST = {"end tokens", "no template", "stored in bfloat16", "batches of 3", "adapter with zero weights"}
"""Rows of the everyday tests, one of each kind; the nightly tier has all."""
LATER: set[str] = set()
"""Rows that become 0 with the ends of a turn (issue 13, point 1): take them out as it comes in."""
ALONE = {f.id for f in findings() if len({role for role, _ in f.needs}) == 1}
"""Findings on one checkpoint, whose effect is no difference: measured of either checkpoint it is the same."""
UNDECIDED = {"hewitt2024.style_fades_off_domain"}
"""Findings that a pair this small may not decide."""
UNCHANGED = {"wu2023.heads_gain_instruction_verbs", "wu2023.lower_layers_gain_most"}
"""Findings on what changed, which do not apply where nothing did."""
TOO_LONG = {"damage.text_stays_likely"}
"""Findings whose texts do not fit the context of a checkpoint this small."""


@pytest.fixture(scope="module")
def plain(make_checkpoint: Callable[..., Path]) -> Path:
    """A random checkpoint that often ends a turn, its weights exact in bfloat16."""
    folder = make_checkpoint("plain", seed=11, template=TEMPLATE)
    tensors = {name: tensor.bfloat16().float() for name, tensor in load_file(folder / "model.safetensors").items()}
    tensors["lm_head.weight"][END] *= 2
    tensors["lm_head.weight"][END_OF_TURN] *= 4  # both powers of two, so that bfloat16 still holds them
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, tiny_words: Path) -> dict[str, Any]:
    """Prompts that a short response follows, the store of all rows, and words."""
    folder = tmp_path_factory.mktemp("identical")
    rows = [
        {
            "id": f"p{i}",
            "prompt": f"Name the {word}. It is {word}, {'and ' * (i % 3)}old.",
            "instruction_spans": [[0, 9 + len(word)]],
            "reference": word,
            "verify": {"kind": "regex", "pattern": "^.{0,5}$"},
        }
        for i, word in enumerate(("red", "blue", "green", "black", "white", "brown", "pink", "grey"))
    ]
    path = folder / "colours.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"prompts": path, "store": folder / "store", "vocabulary": tiny_words, "word_vectors": tiny_words}


def effects(base: ModelRef, tuned: ModelRef, asked: dict[str, Any]) -> dict[str, float | None]:
    """Finding -> effect of a pair whose siblings are the tuned checkpoint too; None where it is not applicable."""
    pair = ModelPair(
        name="aa", base=base, tuned=tuned, siblings={"response_tuned": tuned, "single_task_tuned": tuned},
        single_task=SingleTask(examples=asked["prompts"], prompts="p1"),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        # In a space of random vectors the annotator is blind and findings on its labels do not apply; here its word is
        # taken, because what is looked at is whether equal weights get equal labels.
        patch.setattr("tuneshift.session.run.annotator_agreement", lambda named, word_space: None)
        found = run(pairs=pair, max_new_tokens=12, device="cpu", **asked)
    assert not found.failed
    return {claim["finding"]: claim["effect"] for claim in found.claims}


@pytest.fixture(scope="module")
def itself(plain: Path, asked: dict[str, Any]) -> dict[str, float | None]:
    """The effects of the plain checkpoint against itself, all of one piece of evidence."""
    ref = ModelRef(name="plain", model=str(plain))
    return effects(ref, ref, asked)


def test_a_checkpoint_against_itself_has_no_effect_and_its_own_values_are_some(itself: dict[str, float | None]):
    """A value that nothing could move would prove nothing."""
    compared = dict(itself)
    assert set(compared) == {finding.id for finding in findings()}
    of_one = {finding: compared.pop(finding) for finding in ALONE}
    assert {finding for finding, effect in of_one.items() if not effect} <= UNDECIDED
    assert {finding for finding, effect in compared.items() if effect is None} == UNCHANGED | TOO_LONG
    assert not any(compared.values())


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(
            r,
            marks=[
                *([pytest.mark.xfail(strict=True, reason="ends of a turn")] if r in LATER else []),
                *([] if r in FIRST else [pytest.mark.nightly]),
            ],
        )
        for r in ROWS
    ],
)
def test_identical_weights_have_no_effect(
    row: str, plain: Path, asked: dict[str, Any], itself: dict[str, float | None], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    folder = Path(shutil.copytree(plain, tmp_path / "saved otherwise"))
    ROWS[row](folder)
    edit(folder / "config.json", saved_as=row)  # unknown to transformers: another fingerprint
    if row.startswith("batches"):
        monkeypatch.setattr(generation, "FIRST_BATCH", 3)
        monkeypatch.setattr(scoring, "BATCH_TOKENS", 150)
        monkeypatch.setattr(attribution.LlamaBackend, "__post_init__", lambda backend: backend.halve())
    adapter = folder / "adapter"
    ref = ModelRef(name=row, model=str(folder), adapter=str(adapter) if adapter.is_dir() else None)
    of_plain = ModelRef(name="plain", model=str(plain))
    pairs = [(of_plain, ref), (ref, of_plain)] if row != "no template" else [(ref, of_plain)]
    for base, tuned in pairs:
        assert effects(base, tuned, asked) == itself


def test_the_table_of_the_docs_has_the_rows():
    table = DOCS.read_text(encoding="utf-8").partition("## Identical weights")[2].partition("\n## ")[0]
    assert re.findall(r"^\| ([^|]+?) \|", table, re.MULTILINE)[2:] == list(ROWS)
