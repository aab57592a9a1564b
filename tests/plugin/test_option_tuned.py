"""``--tuned``: each checkpoint that it names makes a pair with the base."""

from __future__ import annotations


def test_two_tuned_checkpoints_are_two_pairs_and_their_base_is_measured_once(
    suites, record, tiny_base, tiny_tuned, tiny_prompts, make_checkpoint
):
    other = make_checkpoint("tiny-next", seed=9)
    pair = (f"--base={tiny_base}", f"--tuned={tiny_tuned}", f"--tuned={other}", "--shift-prompts", tiny_prompts)
    result = suites("-k", "density_rises", pair=pair)
    result.stdout.fnmatch_lines(
        [
            "tuneshift: pair tiny-base-tiny-tuned: tiny-base -> tiny-tuned",
            "tuneshift: pair tiny-base-tiny-next: tiny-base -> tiny-next",
        ]
    )
    values = {claim["pair"]: claim["values"] for claim in record()["claims"]}
    first, second = values.pop("tiny-base-tiny-tuned"), values.pop("tiny-base-tiny-next")
    assert not values
    assert first["base"] == second["base"]
    assert first["tuned"] != second["tuned"]
