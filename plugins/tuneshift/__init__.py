"""Published findings about instruction tuning as pytest tests over pairs of causal language models.

The names of ``__all__`` are the public API (docs/api); every module below is private and may move. They load when they
are first asked for: the plugin imports this package in every pytest run of its environment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .checkpoints.fingerprint import fingerprint
    from .checkpoints.refs import ModelRef
    from .claims.claim import Claim
    from .claims.finding import Finding, Outcome
    from .claims.view import NotApplicable, View
    from .errors import TuneshiftError, UsageError
    from .gate.baselines import Baselines
    from .measures.adapter_rules import load_rules
    from .measures.attribution.density import Attribution
    from .measures.attribution.one_prompt import attribute
    from .measures.rule_adapter import RuleAdapter
    from .pairs import ModelPair, load_pairs
    from .prompts.sets import load_prompts
    from .quantities.concept_figures import (
        angle_curves_figure,
        level_shares_figure,
        moved_concepts_figure,
        task_shares_figure,
    )
    from .quantities.concept_rotation import rotates_knowledge
    from .quantities.concept_shares import category_shift, levels_shift
    from .quantities.following import clusters_of, following, responses, win_rate
    from .quantities.following_figures import (
        ended_figure,
        following_figure,
        length_figure,
        repetition_figure,
        responses_figure,
        win_matrix_figure,
    )
    from .quantities.likelihood import likelihood_change
    from .quantities.ranking import ranked, ranking_survives
    from .quantities.ranking_figures import margin_figure, ranking_figure
    from .quantities.recognition import (
        context_score,
        followed_or_not,
        instruction_minus_context,
        instruction_score,
        instruction_share_slope,
        longest_response,
        mean_instruction_share,
        middle_density_share,
        paired,
        to_shorter,
        tokens_without_share,
    )
    from .quantities.recognition_figures import kept_tokens_figure
    from .quantities.style import outside_single_task, single_task_style_fades
    from .quantities.verb_figures import head_map_figure, verb_dots_figure
    from .quantities.verb_relations import (
        gain_over_all_verbs,
        gain_over_heads,
        gain_slope,
        instruction_verbs_gain,
        relations_change,
    )
    from .report.html import write_report
    from .session.results import Rows, Run, load_run
    from .session.scripting import compare_runs, run
    from .statistics.differences import equivalence, paired_difference, two_sample_difference
    from .statistics.estimates import jackknife_statistic
    from .statistics.statistic import Arm, Statistic
    from .store.evidence import Evidence
    from .store.store import Store

    __version__: str

_MODULES = {
    # what a finding is written with
    "Arm": ".statistics.statistic",
    "Claim": ".claims.claim",
    "Finding": ".claims.finding",
    "NotApplicable": ".claims.view",
    "Outcome": ".claims.finding",
    "Statistic": ".statistics.statistic",
    "View": ".claims.view",
    "clusters_of": ".quantities.following",
    "equivalence": ".statistics.differences",
    "followed_or_not": ".quantities.recognition",
    "following": ".quantities.following",
    "jackknife_statistic": ".statistics.estimates",
    "paired": ".quantities.recognition",
    "paired_difference": ".statistics.differences",
    "ranked": ".quantities.ranking",
    "ranking_survives": ".quantities.ranking",
    "relations_change": ".quantities.verb_relations",
    "responses": ".quantities.following",
    "two_sample_difference": ".statistics.differences",
    "win_rate": ".quantities.following",
    # what else the shipped findings are decided by
    "category_shift": ".quantities.concept_shares",
    "context_score": ".quantities.recognition",
    "gain_over_all_verbs": ".quantities.verb_relations",
    "gain_over_heads": ".quantities.verb_relations",
    "gain_slope": ".quantities.verb_relations",
    "instruction_minus_context": ".quantities.recognition",
    "instruction_score": ".quantities.recognition",
    "instruction_share_slope": ".quantities.recognition",
    "instruction_verbs_gain": ".quantities.verb_relations",
    "levels_shift": ".quantities.concept_shares",
    "likelihood_change": ".quantities.likelihood",
    "longest_response": ".quantities.recognition",
    "mean_instruction_share": ".quantities.recognition",
    "middle_density_share": ".quantities.recognition",
    "outside_single_task": ".quantities.style",
    "rotates_knowledge": ".quantities.concept_rotation",
    "single_task_style_fades": ".quantities.style",
    "to_shorter": ".quantities.recognition",
    "tokens_without_share": ".quantities.recognition",
    # and drawn with
    "angle_curves_figure": ".quantities.concept_figures",
    "ended_figure": ".quantities.following_figures",
    "following_figure": ".quantities.following_figures",
    "head_map_figure": ".quantities.verb_figures",
    "kept_tokens_figure": ".quantities.recognition_figures",
    "length_figure": ".quantities.following_figures",
    "level_shares_figure": ".quantities.concept_figures",
    "margin_figure": ".quantities.ranking_figures",
    "moved_concepts_figure": ".quantities.concept_figures",
    "ranking_figure": ".quantities.ranking_figures",
    "repetition_figure": ".quantities.following_figures",
    "responses_figure": ".quantities.following_figures",
    "task_shares_figure": ".quantities.concept_figures",
    "verb_dots_figure": ".quantities.verb_figures",
    "win_matrix_figure": ".quantities.following_figures",
    # what runs are scripted with
    "Attribution": ".measures.attribution.density",
    "Baselines": ".gate.baselines",
    "Evidence": ".store.evidence",
    "ModelPair": ".pairs",
    "ModelRef": ".checkpoints.refs",
    "Rows": ".session.results",
    "RuleAdapter": ".measures.rule_adapter",
    "Run": ".session.results",
    "Store": ".store.store",
    "attribute": ".measures.attribution.one_prompt",
    "compare_runs": ".session.scripting",
    "fingerprint": ".checkpoints.fingerprint",
    "load_pairs": ".pairs",
    "load_prompts": ".prompts.sets",
    "load_rules": ".measures.adapter_rules",
    "load_run": ".session.results",
    "run": ".session.scripting",
    "write_report": ".report.html",
    # what goes wrong
    "TuneshiftError": ".errors",
    "UsageError": ".errors",
}
"""Public name -> the module that it comes from."""

__all__ = [
    "Arm",
    "Attribution",
    "Baselines",
    "Claim",
    "Evidence",
    "Finding",
    "ModelPair",
    "ModelRef",
    "NotApplicable",
    "Outcome",
    "Rows",
    "RuleAdapter",
    "Run",
    "Statistic",
    "Store",
    "TuneshiftError",
    "UsageError",
    "View",
    "__version__",
    "angle_curves_figure",
    "attribute",
    "category_shift",
    "clusters_of",
    "compare_runs",
    "context_score",
    "ended_figure",
    "equivalence",
    "fingerprint",
    "followed_or_not",
    "following",
    "following_figure",
    "gain_over_all_verbs",
    "gain_over_heads",
    "gain_slope",
    "head_map_figure",
    "instruction_minus_context",
    "instruction_score",
    "instruction_share_slope",
    "instruction_verbs_gain",
    "jackknife_statistic",
    "kept_tokens_figure",
    "length_figure",
    "level_shares_figure",
    "levels_shift",
    "likelihood_change",
    "load_pairs",
    "load_prompts",
    "load_rules",
    "load_run",
    "longest_response",
    "margin_figure",
    "mean_instruction_share",
    "middle_density_share",
    "moved_concepts_figure",
    "outside_single_task",
    "paired",
    "paired_difference",
    "ranked",
    "ranking_figure",
    "ranking_survives",
    "relations_change",
    "repetition_figure",
    "responses",
    "responses_figure",
    "rotates_knowledge",
    "run",
    "single_task_style_fades",
    "task_shares_figure",
    "to_shorter",
    "tokens_without_share",
    "two_sample_difference",
    "verb_dots_figure",
    "win_matrix_figure",
    "win_rate",
    "write_report",
]

if not TYPE_CHECKING:  # what follows would give every name the type Any

    def __getattr__(name: str) -> object:
        """A public name, from its module, at its first use (PEP 562)."""
        from importlib import import_module

        if name == "__version__":
            from importlib.metadata import version

            value = version("tuneshift")
        elif name in _MODULES:
            value = getattr(import_module(_MODULES[name], __name__), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        """What there is, loaded or not."""
        return sorted({*globals(), *__all__})
