"""Run records for the tests of the report: ordinary, hostile, hollow, and of many pairs."""

from __future__ import annotations

import random
from typing import Any

from tuneshift.run_record import RunRecord

Row = dict[str, Any]


def needed(n: int | None) -> dict[str, object]:
    """What a fresh set takes to decide, as a record has it."""
    end = "(at least 240 if the truth lies at the interval's farther end)"
    return {"n_needed": n, "n_at_least": n and 240, "needed": n and f"{n} prompts {end}"}


def model_ref(name: str) -> Row:
    """A checkpoint as the run record holds it."""
    return {
        "name": name,
        "model": f"example/{name}",
        "revision": "main",
        "fingerprint": (name.encode().hex() * 40)[:64],
        "dtype": "float32",
        "device": "cpu",
        "parameters": 6_738_415_616,
        "chat_template": "none",
    }


def claim(finding: str = "wu2023.instruction_density_rises", n: int = 40, shift: float = 0.2, **changed: Any) -> Row:
    """A paired claim with seeded values and everything that a claim can hold."""
    source = random.Random(ascii((finding, n, shift, changed.get("group"))))
    ids = [f"task_{k}" for k in range(n)]
    base = [max(0.0, source.gauss(0.94, 0.48)) for _ in ids]
    tuned = [max(0.0, b + source.gauss(shift, 0.5)) for b in base]
    effect = (sum(tuned) - sum(base)) / n
    half = 1.2 / n**0.5
    verdict = "reproduced" if effect - half > 0.05 else "contradicted" if effect + half < -0.05 else "inconclusive"
    row: Row = {
        "finding": finding,
        "title": f"Title of {finding}",
        "claim": "The tuned model weighs instruction words more than the base model does.",
        "how": "Importance density of instruction tokens per prompt, tuned minus base, on the same prompts.",
        "deviations": "Groups are tested apart; the paper pools them.",
        "source": "arXiv:2310.00492, section 4.1, table 2",
        "unit": "importance density",
        "direction": "greater",
        "pair": "llama-vicuna",
        "prompts": "wu2023",
        "group": "Self-Instruct",
        "n": n,
        "clusters": n,
        "left_out": {"longer than the context": 2},
        "base": {"mean": sum(base) / n, "sd": 0.48, "n": n},
        "tuned": {"mean": sum(tuned) / n, "sd": 0.55, "n": n},
        "arms": [
            {"label": "base", "mean": sum(base) / n, "sd": 0.48, "n": n},
            {"label": "tuned", "mean": sum(tuned) / n, "sd": 0.55, "n": n},
        ],
        "effect": effect,
        "interval": [effect - half, effect + half],
        "level": 0.9875,
        "p": 2.1e-5,
        "method": "paired t",
        "seed": 0,
        "sesoi": 0.05,
        "sesoi_reason": "A tenth of the published standard deviation.",
        "verdict": verdict,
        "reason": f"The interval decides: {verdict}.",
        **needed(412 if verdict == "inconclusive" else None),
        "expected": None,
        "sensitivity": [
            {"name": "user turn only", "effect": 0.1, "interval": [-0.02, 0.22], "verdict": "inconclusive", "n": n}
            | {"note": "density normalised over the user turn"},
            {"name": "shared response", "effect": 0.15, "interval": [0.06, 0.24], "verdict": "reproduced", "n": n},
        ],
        "secondary": [{"name": "d_z", "effect": 0.3, "interval": None, "p": None, "n": n}],
        "details": {"d_z": 0.3, "fifths": {"base": [0.41, 0.44], "tuned": [0.51, 0.52]}},
        "values": {"base": {"ids": ids, "x": base}, "tuned": {"ids": ids, "x": tuned}},
    }
    return row | changed


def not_applicable(**changed: Any) -> Row:
    """A claim that could not be tested: nothing but its words."""
    nothing: Row = dict.fromkeys(
        ("base", "tuned", "effect", "interval", "p", "level", "seed", "n_needed", "n_at_least", "needed", "expected")
    )
    empty: Row = {"arms": [], "values": {}, "sensitivity": [], "secondary": [], "details": {}, "left_out": {}}
    words = {"verdict": "not_applicable", "reason": "No prompt of this group is rated.", "n": 0, "clusters": 0}
    return claim(**changed) | nothing | empty | words


def two_samples(**changed: Any) -> Row:
    """A claim that compares followed with unfollowed prompts of one model."""
    source = random.Random(1)
    sides = {
        "not followed": [source.gauss(0.89, 0.48) for _ in range(20)],
        "followed": [source.gauss(1.23, 0.5) for _ in range(60)],
    }
    arms = [{"label": k, "mean": sum(x) / len(x), "sd": 0.5, "n": len(x)} for k, x in sides.items()]
    values = {k: {"ids": [f"{k}{i}" for i in range(len(x))], "x": x} for k, x in sides.items()}
    return claim("wu2023.density_marks_followed", base=None, tuned=None, arms=arms, values=values, **changed)


def example(tokens: list[str] | None = None, response: str = "Here is a shorter sentence.", **changed: Any) -> Row:
    """One prompt under two models."""
    tokens = tokens or ["<s>", "▁Re", "write", "▁the", "▁sentence", ".", "<0x0A>", "▁It", "▁rains", "."]
    models = [
        {
            "label": label,
            "name": f"{label} model",
            "tokens": tokens,
            "density": [((k * 7 + shift) % 11) / 10 for k in range(len(tokens))],
            "instruction": [1 <= k <= 5 for k in range(len(tokens))],
            "template": [k == 0 for k in range(len(tokens))],
            "response": response,
            "score": 0.9 + shift / 10,
        }
        for shift, label in enumerate(("base", "tuned"))
    ]
    row = {"pair": "llama-vicuna", "prompt_set": "wu2023", "id": "task_0", "group": "Self-Instruct", "prompt": "Re"}
    return row | {"models": models} | changed


def record(claims: list[Row], examples: list[Row] | None = None, pairs: list[str] | None = None) -> RunRecord:
    """A run record around claims and examples."""
    run = {
        "started": "2026-11-21T07:05:00+00:00",
        "finished": "2026-11-21T07:06:12+00:00",
        "duration_s": 72.4,
        "versions": {"tuneshift": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "transformers": "5.23.0"},
        "command": "pytest suites --pairs pairs.toml --pair llama-vicuna",
        "host": {"platform": "Linux-6.1-x86_64", "cpus": 2, "device": "cpu"},
        "exit_code": 1,
        "alpha": 0.05,
        "confirmatory_claims": 4,
        "store": "/home/me/.cache/tuneshift",
    }
    named = [
        {"name": name, "base": model_ref("llama-7b"), "tuned": model_ref("vicuna-7b")}
        | {"prompts": [{"name": "wu2023", "n": 332, "sha256": "0f" * 32}]}
        for name in (["llama-vicuna"] if pairs is None else pairs)
    ]
    return RunRecord(schema=1, run=run, pairs=named, claims=claims, examples=examples or [])


HOSTILE = (
    "<script>document.title='owned'</script>",
    "</p></td></script></style><img src=x onerror=\"document.title='owned'\">",
    '"><svg onload="document.title=`owned`">',
    "{{ 7 * 7 }}{% raw %}",
    "\u202eright to left\u202c",
    "zero\u200bwidth\ufeff",
    "nul\x00 bell\x07 lone \ud800",
    "line\nbreak\r\nand\u2028more",
    "w" * 100_000,
    "&lt;b&gt; &amp; javascript:document.title='owned'",
)


def full_record() -> RunRecord:
    """Every kind of claim, with known outcomes of both kinds, and an example."""
    claims = [
        claim(),
        claim(group="MT-bench", shift=-0.9, expected={"verdict": "reproduced", "reason": "the paper says so"}),
        claim("wu2023.instructions_stay_important", n=9, shift=0.0, sesoi=0.002)
        | {"expected": {"verdict": "inconclusive", "reason": "nine prompts"}},
        two_samples(),
        not_applicable(finding="wu2023.prompt_middle_recovers"),
    ]
    return record(claims, [example()])


def hostile_record() -> RunRecord:
    """A record in which everything that a model, a prompt or a user named is hostile."""
    claims = []
    for k, text in enumerate(HOSTILE):
        ids = [f"{text}{i}" for i in range(3)] if len(text) < 1000 else ["a", "b", "c"]
        values = {side: {"ids": ids, "x": [0.1, 0.5, 0.2 + k]} for side in ("base", "tuned")}
        named = claim(
            n=3, pair=text[:500], group=text[:500], prompts=text[:90], method=text, reason=text, values=values
        )
        named |= {"title": text[:300], "unit": text[:90], "claim": text, "source": text, "left_out": {text[:200]: 1}}
        claims.append(named)
    examples = [example([*HOSTILE, "plain"], response=text, id=text[:200], group=text[:90]) for text in HOSTILE]
    examples.append(example([*HOSTILE], response="\n".join(HOSTILE)))
    held = record(claims, examples, pairs=[text[:200] for text in HOSTILE])
    held.pairs[0]["base"]["chat_template"] = HOSTILE[1]
    held.pairs[0]["tuned"]["name"] = HOSTILE[1]
    return RunRecord(
        schema=1,
        run={**held.run, "command": HOSTILE[0], "versions": {HOSTILE[0]: HOSTILE[1]}},
        pairs=held.pairs,
        claims=claims,
        examples=examples,
    )


def many_pairs_record() -> RunRecord:
    """Two findings on eight pairs, of which every other reproduces."""
    names = [f"pair-{k}" for k in range(8)]
    findings = ("x2024.one", "x2024.two")
    claims = [claim(f, n=60, shift=(k % 2) * 0.9, pair=p) for f in findings for k, p in enumerate(names)]
    return record(claims, [example(pair=names[0])], names)


def hollow(value: Any) -> Any:
    """The same JSON value with every number gone: NaN for floats, None for ints."""
    if isinstance(value, dict):
        return {k: hollow(v) for k, v in value.items()}
    if isinstance(value, list):
        return [hollow(v) for v in value]
    if isinstance(value, float):
        return float("nan")
    return None if isinstance(value, int) and not isinstance(value, bool) else value


def compared(outcome: str = "held", **changed: Any) -> Row:
    """A claim's comparison with a baseline."""
    row: Row = {
        "baseline": "good",
        "outcome": outcome,
        "effect": {"regressed": -0.2, "improved": 0.2}.get(outcome, 0.01),
        "interval": [-0.3, -0.1] if outcome == "regressed" else [0.1, 0.3] if outcome == "improved" else [-0.03, 0.05],
        "level": 0.9875,
        "p": 0.004,
        "margin": 0.05,
        "n": 38,
        **needed(900 if outcome == "inconclusive" else None),
        "new_items": 2,
        "gone_items": 1,
        "reason": f"The interval of the change says: {outcome}.",
    }
    return row | changed


def compared_record() -> RunRecord:
    """A run that was compared with the baseline "good": every outcome once, with corrected error rates."""
    rates = {"p_decides": 0.0003, "adjusted_p": 0.012, "q": 0.0065}
    floor = {"noise_floor": {"floor": 0.013, "settings": "batches of 8 and 16, float32 and bfloat16"}}
    outcomes = ("regressed", "improved", "held", "inconclusive", "not_compared")
    claims = [
        claim(f"x2024.{outcome}", shift=0.9, comparison=compared(outcome), **rates, **floor) for outcome in outcomes
    ]
    held = record(claims)
    baseline = {"name": "good", "saved": "2026-11-20T10:00:00+00:00", "tuned": "ab" * 32}
    return RunRecord(schema=1, run={**held.run, "baseline": baseline}, pairs=held.pairs, claims=held.claims)
