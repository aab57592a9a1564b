"""Mistakes put into the code by hand, one at a time: the tests that mirror the module must see each.

    python tests/hand_mutants.py                 # all; prints the survivors, exit code 1 where there are any
    python tests/hand_mutants.py --only change   # those whose file or text holds "change"
    python tests/hand_mutants.py --check         # only whether each still fits the code (tests/test_hand_mutants.py)

Each is one replacement of text in a copy of the checkout, whose package `PYTHONPATH` puts before the installed one.
Another room's mutants are another list in `MUTANTS`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "plugins" / "tuneshift"


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """``old`` becomes ``new`` in a ``file`` of the package; ``tests`` are the files that must fail."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.file}: {' '.join(self.old.split())} -> {' '.join(self.new.split()) or '(nothing)'}"


def of(file: str, tests: str, *changes: tuple[str, str]) -> tuple[Mutant, ...]:
    """Mutants of one file; ``tests`` are files below tests/, apart by spaces."""
    return tuple(Mutant(file=file, old=old, new=new, tests=tuple(tests.split())) for old, new in changes)


ENGINE = (
    *of(
        "engine/engine.py",
        "engine/test_engine.py",
        (
            "if digest in self._failures:\n                raise self._failures[digest]",
            "if False:\n                pass",
        ),
        ("for loads in (True, False):", "for loads in (False, True):"),
        ("if not keep:\n                        self.forget()", "if keep:\n                        self.forget()"),
        (
            "except DamagedEvidence as error:\n            # The",
            "except ZeroDivisionError as error:\n            # The",
        ),
        ("missing = session.missing\n", "missing = session.missing[1:]\n"),
        ("[inputs.get(i) for i in ids]", "[None for i in ids]"),
        ("if self.refused is not None:\n            raise self.refused", "if False:\n            raise self.refused"),
        ("return self.ref.dtype or self.settings.dtype", "return self.settings.dtype"),
        ("torch.set_num_threads(threads)", "torch.set_num_threads(1)"),
        ("chunk_size=size)", "chunk_size=size + 1)"),
        ("parameters < SMALL else measure.chunk", "parameters <= SMALL else measure.chunk"),
        ("self._failures[task.key.digest] = measure_failure(error, task, self.store.root)", "return False"),
    ),
    *of(
        "engine/copies.py",
        "engine/test_engine.py",
        ("if store.status(key, task.ids).complete)", "if key)"),
        ("lambda i: task.measure.narrow(i, task.params)", "lambda i: i"),
    ),
    *of(
        "engine/failures.py",
        "engine/test_engine.py",
        ("if isinstance(error, TuneshiftError):", "if not isinstance(error, TuneshiftError):"),
        ("    _let_go_(error)\n    return kept", "    return kept"),
    ),
    *of(
        "engine/steps.py",
        "engine/test_steps.py",
        ("ref = (whole or some)[0]", "ref = some[0]"),
        ("            add(task.depends_on)\n", "            pass\n"),
        ("finished.add(task.key.digest)", "pass"),
    ),
    *of(
        "engine/plan.py",
        "engine/test_plan.py measures/test_params.py measures/test_key_inputs.py",
        ("chosen = ref if ref.chat_template is not None else pair.tuned", "chosen = ref"),
        ("day=pair.chat_date or CHAT_DATE", "day=CHAT_DATE"),
        ("dtype=ref.dtype or self.settings.dtype,", "dtype=self.settings.dtype,"),
        ("            version=measure.version,", "            version=1,"),
        ('{**held.params, "backend": identity(backend)}', "held.params"),
        ("if self.batch_share is not None and not layers and", "if self.batch_share is not None and"),
        ("self.settings.max_new_tokens or pair.max_new_tokens", "pair.max_new_tokens or self.settings.max_new_tokens"),
        ("prompts.prompts, prompts.name, prompts.sha256", 'prompts.prompts, prompts.name, ""'),
        ("checkpoint=self.fingerprint(ref),", "checkpoint=self.fingerprint(pair.base),"),
    ),
    *of(
        "engine/second.py",
        "engine/test_plan.py claims/test_noise_floor.py plugin/test_option_noise_floor.py",
        ('"bfloat16" if dtype == "float32" else "float32"', '"bfloat16"'),
        ("all(ref is not None and ref.evidence is None", "any(ref is not None and ref.evidence is None"),
    ),
    *of(
        "engine/rekey.py",
        "engine/test_rekey.py",
        ('if task.params["chat_date"] is not None:', "if False:"),
        ('if author is not None and params["response"] != "own":', "if author is not None:"),
        ('if stored.complete else "it is not whole"', 'if True else "it is not whole"'),
    ),
)
KEYS = (
    *of(
        "measures/params.py",
        "measures/test_params.py measures/test_key_inputs.py",
        ('        "author": None if depends_on is None else depends_on.key.digest,\n', ""),
        ('        "ends": list(asked.planner.ends(asked.pair, asked.ref, asked.asked_in)),\n', ""),
        ('        "thinking": None if tags is None else list(tags),\n', ""),
        ('params["present"] = "text" if of_rules == TEXT_ALONE else "turn"', 'params["present"] = "turn"'),
        ("[p.id, p.prompt, p.reference, p.topic or p.cluster]", "[p.id, p.prompt, p.reference]"),
        ('"derivative_dtype": asked.ref.dtype or', '"derivative_dtype": None and'),
        ('"word_vectors": space_identity(space)', '"word_vectors": {}'),
        ('"concepts": labelled.key.digest,', '"concepts": labelled.measure.name,'),
        ('"annotator": annotator.identity,', '"annotator": asked.planner.settings.annotator,'),
        ('own = mode == "own" or (mode == "tuned" and tuned == asked.ref)', 'own = mode == "own"'),
        ("max(1, min(CONCEPTS_KEPT, width // 4))", "max(1, min(CONCEPTS_KEPT, width))"),
        ("return Held(params=params, served=not asked.variant)", "return Held(params=params, served=True)"),
    ),
    *of(
        "store/evidence.py",
        "store/test_store.py",
        ("self.checkpoint, self.dtype, self.prompts])", "self.checkpoint, self.prompts])"),
        ("[self.measure, self.version,", "[self.measure,"),
    ),
)
STATISTICS = (
    *of(
        "statistics/change.py",
        "statistics/test_change.py",
        (
            "span=span_of_difference(low, high))",
            "span=None if low.span is None else (low.span[0] - low.span[0], high.span[1] - low.span[0]))",
        ),
        ("labels = [clusters.get(i, i) for i in before.ids]", "labels = list(before.ids)"),
        ("span = None if low.span is None else (-low.span[1], -low.span[0])", "span = None"),
        ("values=-low.values", "values=low.values"),
        ("freedom = min(freedom, effective_clusters(codes) - 1)", "pass"),
        ("low=-width, high=width", "low=0.0, high=width"),
        ("effect = 0.0 if same else rounded_off(after - before, size)", "effect = before - after"),
        ("if same and same_evidence:", "if same:"),
        ("error = math.hypot(*known)", "error = sum(known)"),
    ),
    *of(
        "statistics/differences.py",
        "statistics/test_differences.py",
        ("difference = tuned.values - base.values", "difference = base.values - tuned.values"),
        ("if same_evidence and len(difference) and not difference.any():", "if not difference.any():"),
        ("level=2 * level - 1", "level=level"),
        ("return nearer if abs(effect) < margin else 1 - nearer", "return nearer"),
        ("tuned.span[0] - base.span[1], tuned.span[1] - base.span[0]", "tuned.span[0] - base.span[0], 1.0"),
        ("span = low.span if low.span == high.span else None", "span = low.span"),
        ("n=min(len(low.ids), len(high.ids)),", "n=len(low.ids) + len(high.ids),"),
    ),
    *of(
        "statistics/clustered.py",
        "statistics/test_differences.py statistics/test_mean_intervals.py statistics/test_change.py",
        ("math.sqrt((present - 1) / present)", "1.0"),
        ("sum(v**2 / f for v, f", "sum(v / f for v, f"),
    ),
    *of(
        "statistics/paired_binary.py",
        "statistics/test_paired_binary.py",
        ("b**2 + 8 * n * lost", "b**2 + 4 * n * lost"),
        ("min(1.0, alone / together)", "alone / together"),
        ("freedom=units - 1)", "freedom=math.inf)"),
    ),
    *of(
        "statistics/permutation.py",
        "statistics/test_permutation.py",
        ("p=(reached + 1) / (flips + 1)", "p=reached / flips"),
        ("slack = 1e-12 * float(np.sum(np.abs(difference)))", "slack = -1e-12 * float(np.sum(np.abs(difference)))"),
    ),
    *of(
        "statistics/multiplicity.py",
        "statistics/test_multiplicity.py",
        ("np.arange(len(known), 0, -1)", "np.full(len(known), len(known))"),
        ("1.0 if x is None or math.isnan(x)", "0.0 if x is None or math.isnan(x)"),
    ),
    *of(
        "statistics/bootstrap.py",
        "statistics/test_differences.py",
        ("if len(drawn) < 0.99 * resamples:", "if False:"),
        ("/ (6 * spread)", "/ spread"),
    ),
    *of(
        "claims/view.py",
        "claims/test_view.py",
        ("own) < min_tokens:", "own) <= min_tokens:"),
        ('np.isnan(item.arrays["importance"][scope]).any()', "False"),
    ),
    *of(
        "claims/verdict.py",
        "claims/test_verdict.py",
        ('"less": (high < bound, low > bound)', '"less": (high < sesoi, low > bound)'),
        ("finding.bound if finding.noninferior else finding.sesoi", "finding.sesoi"),
        ("-sesoi < low and high < sesoi", "-sesoi < low or high < sesoi"),
    ),
    *of(
        "quantities/likelihood.py",
        "quantities/test_likelihood.py",
        ("np.clip(change, -cap, cap)", "change"),
        ('arrays["lengths"][0]', 'arrays["lengths"][-1]'),
    ),
    *of(
        "measures/text.py",
        "measures/test_text.py",
        ("(start, [ids]) if len(start) else (ids[:1], [ids[1:]])", "(start if len(start) else ids[:1], [ids])"),
        ("add_special_tokens=False", "add_special_tokens=True"),
    ),
)
GATE = (
    *of(
        "statistics/gate_rule.py",
        "statistics/test_gate_rule.py",
        ("shown_alpha) / claims\n    low, high", "shown_alpha)\n    low, high"),
        ("intervals.at(1 - 2 * alpha)", "intervals.at(1 - alpha)"),
        ("    if high < 0:\n", "    if high < -margin / 2:\n"),
        (
            'low > margin or high < -margin:\n            return "regressed"',
            'high < -margin:\n            return "regressed"',
        ),
    ),
    *of(
        "statistics/look_budget.py",
        "statistics/test_look_budget.py",
        ("max(rate / claims, SMALLEST)", "rate / claims"),
        ("(*floored[:-1], last)", "tuple(floored)"),
    ),
    *of(
        "gate/matching.py",
        "gate/test_matching.py gate/test_compare.py gate/test_baselines.py",
        ('if here.get("dtype") != there.get("dtype"):', "if False:"),
        ('if role != "tuned" and _print(pair', 'if role == "base" and _print(pair'),
        ("if counts[0][hashed] == 1 and hashed in once", "if hashed in once"),
        ("if counts[1][hashed] == 1}", "}"),
    ),
    *of(
        "gate/rates.py",
        "gate/test_rates.py",
        ('if not roles or "tuned" in roles:', 'if "tuned" in roles:'),
        ("return max(1, count)", "return count"),
        ("if has_effect(claim):", "if True:"),
    ),
    *of(
        "gate/missing.py",
        "gate/test_missing.py",
        ("elif asked.intersection(places):", "elif False:"),
        ("if made.intersection(places):", "if made:"),
    ),
    *of(
        "gate/compare.py",
        "gate/test_compare.py gate/test_claim_change.py gate/test_sight.py",
        ("level = 1 - rates.shown / rates.claims", "level = 1 - rates.shown"),
        ("LOST_SHARE = 0.02", "LOST_SHARE = 0.2"),
        ('if outcome in ("held", "improved") and (lost', 'if outcome == "improved" and (lost'),
        ("if change.equal and (not moves or same_evidence(claim, old)):", "if change.equal:"),
    ),
)
SHARING = (
    *of(
        "store/evidence_file.py",
        "store/test_evidence_file.py",
        ("if _seal(data[:-_LENGTH]) != data[-_LENGTH:]:", "if False:"),
        ("if int(found[1]) != FORMAT:", "if False:"),
        ("if fault is None and (kind not in (0, stat.S_IFREG) or entry.is_dir()):", "if False:"),
        ("name.casefold() in seen", "name in seen"),
        ("for entry in entries)) > LARGEST_WHOLE", "for entry in entries)) < 0"),
        ("date_time=(1980, 1, 1, 0, 0, 0)", 'date_time=__import__("time").localtime()[:6]'),
        ("sorted(members, key=lambda name: (name != MANIFEST, name))", "members"),
    ),
    *of(
        "store/recorded_pair.py",
        "commands/test_sharing.py",
        ("if set(named) != there:", "if False:"),
        ('layout.key.checkpoint != pair.checkpoints[role]["fingerprint"]', "False"),
        ("(*(() if prompts is None else (prompts.sha256,)), ON_WEIGHTS)", "by_set"),
    ),
    *of(
        "session/replay.py",
        "commands/test_sharing.py",
        ("if asked not in (usual, recorded):", "if False:"),
        ("value if asked == usual else asked", "asked"),
    ),
    *of(
        "session/publishing.py",
        "commands/test_sharing.py",
        ("if need in now and digest is not None and digest != now[need]:", "if False:"),
    ),
    *of(
        "engine/engine.py",
        "engine/test_costs.py",
        ("self._charged |= asked\n", "self._charged |= set()\n"),
        ("meter.apart += sum(", "meter.apart += 0 * sum("),
    ),
    *of(
        "session/foresight.py",
        "session/test_foresight.py",
        ("len({prompt.unit for prompt in target.members})", "len(target.members)"),
        ("if count >= fewest", "if count > fewest"),
    ),
)
ATTRIBUTION = (
    *of(
        "checkpoints/llama.py",
        "checkpoints/test_llama.py measures/test_attribution.py",
        ('if kind in (None, "sliding_attention") else None', "if True else None"),
        ('rotary=rotary if getattr(attention, "use_rope", True) else None', "rotary=rotary"),
        ("if not attention.is_causal:", "if False:"),
        ("for kind in dict.fromkeys(config.layer_types)", "for kind in dict.fromkeys(config.layer_types[:1] * 9)"),
        ("config.attn_logit_softcapping if family.capped else None", "None"),
        ("offset=1.0 if family.centred else 0.0", "offset=0.0"),
        ("sizes = (config.num_attention_heads * attention.head_dim, keys, keys)", "sizes = (keys, keys, keys)"),
    ),
    *of(
        "measures/attribution/llama_forward.py",
        "measures/test_attribution.py",
        ("(behind < 0) | (behind >= window)", "(behind < 0) | (behind > window)"),
        ("slopes=slope.mul_(values)", "slopes=values"),
        ("return bounded * cap, 1 - bounded.square()", "return bounded * cap, torch.ones_like(x)"),
        ("self.window, self.cap)", "self.window, None)"),
        ("return values, values if self._one else self.slopes.flatten(1, 2)", "return values, values"),
        (".to(wide) * blocks.embedding_scale", ".to(wide)"),
        ("cotangent = cotangent * slope", "pass"),
        ("cotangents.append(cotangent @ head / blocks.logit_divisor)", "cotangents.append(cotangent @ head)"),
        ("norm.weight.to(x.dtype) + norm.offset", "norm.weight.to(x.dtype)"),
        ("(1 + 3 * b * x.square())", "(1 + b * x.square())"),
        ("    turned = sin.shape[-1]\n", "    turned = x.shape[-1]\n"),
        ("    if width == x.shape[-1]:\n", "    if True:\n"),
        ("cos[:, : turned.shape[-1]] = turned", "cos[:, : turned.shape[-1]] = 1"),
    ),
    *of(
        "measures/attribution/llama.py",
        "measures/test_attribution.py",
        ("return g if self.blocks.residual_scale == 1 else g * self.blocks.residual_scale", "return g"),
        ("torch.add(x, y, alpha=self.blocks.residual_scale)", "torch.add(x, y)"),
        ("return _pushed(layer_jet.mlp_out_norm, where, y)", "return y"),
        ("x = self._added(x[start - first :], _pushed(layer_jet.out_norm, here, y))", "x = x[start - first :] + y"),
        ("_pulled(layer_jet.mlp_out_norm, where, self._scaled(g))", "self._scaled(g)"),
        ("_pulled(layer_jet.out_norm, own, self._scaled(g))", "self._scaled(g)"),
        ("_pulled(layer_jet.out_norm, there, self._scaled(g))", "self._scaled(g)"),
        (".mul_(weights.slopes)", ".mul_(weights.values)"),
    ),
)
MUTANTS = (*ENGINE, *KEYS, *STATISTICS, *GATE, *SHARING, *ATTRIBUTION)


def misfits() -> list[str]:
    """Mutants whose text is not there once, or whose tests are not."""
    found = []
    for mutant in MUTANTS:
        count = (PACKAGE / mutant.file).read_text(encoding="utf-8").count(mutant.old)
        if count != 1:
            found.append(f"{mutant.name}: its text stands there {count} times")
        found += [f"{mutant.name}: no {t}" for t in mutant.tests if not (ROOT / "tests" / t).is_file()]
    return found


def survivors(mutants: tuple[Mutant, ...]) -> Iterator[Mutant]:
    """Those that no test sees, as they are found."""
    with tempfile.TemporaryDirectory(prefix="hand-mutants-") as folder:
        copy = Path(folder) / "checkout"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "venv", "site", "__pycache__"))
        # A module of unchanged time and size would be read from its compiled file.
        environment = {**os.environ, "PYTHONPATH": str(copy / "plugins"), "PYTHONDONTWRITEBYTECODE": "1"}
        for mutant in mutants:
            path = copy / "plugins" / "tuneshift" / mutant.file
            whole = path.read_text(encoding="utf-8")
            path.write_text(whole.replace(mutant.old, mutant.new), encoding="utf-8")
            done = subprocess.run(
                [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutant.tests],
                cwd=copy / "tests", env=environment, capture_output=True, text=True,
            )  # fmt: skip
            path.write_text(whole, encoding="utf-8")
            if done.returncode not in (0, 1):
                raise SystemExit(f"{mutant.name}: pytest ended with {done.returncode}\n{done.stdout}{done.stderr}")
            seen = done.returncode == 1
            print(f"{'seen' if seen else 'SURVIVED'}  {mutant.name}", flush=True)
            if not seen:
                yield mutant


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="mutants whose name holds one of them")
    parser.add_argument("--check", action="store_true", help="run nothing, say which do not fit the code")
    chosen = parser.parse_args()
    if wrong := misfits():
        print("\n".join(wrong))
        return 1
    if chosen.check:
        return 0
    tried = tuple(mutant for mutant in MUTANTS if any(text in mutant.name for text in chosen.only))
    left = list(survivors(tried))
    print(f"{len(tried)} mutants, {len(left)} survived")
    return int(bool(left) or not tried)


if __name__ == "__main__":
    sys.exit(main())
