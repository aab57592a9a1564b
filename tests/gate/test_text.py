"""What a gate says in a line, and in the annotation of a CI."""

from __future__ import annotations

import pytest

from tuneshift.gate.look import gate_summary
from tuneshift.gate.text import ci_annotations, conclusion

ABSENT = {"finding": "a.gone", "pair": "p", "prompts": "s", "group": "all", "effect": 0.3, "unit": "u", "reason": "r"}


def claims(*outcomes: str):
    return [{"comparison": {"outcome": outcome}} for outcome in outcomes] + [{"comparison": None}]


@pytest.mark.parametrize(
    ("outcomes", "missing", "allow", "said", "colour"),
    [
        (("held", "improved"), 0, False, "no loss beyond its margin in any of 2 claims", "green"),
        (("held", "inconclusive"), 0, False, "no loss shown; 1 claim cannot say", "yellow"),
        (("inconclusive", "inconclusive", "held"), 0, False, "no loss shown; 2 claims cannot say", "yellow"),
        (("regressed", "worse", "inconclusive"), 0, False,
         "the gate is red: 1 regressed, 1 worse; 1 claim cannot say", "red"),
        (("held", "missing"), 2, False, "the gate is red: 3 missing", "red"),
        (("held", "missing"), 2, True, "no loss beyond its margin in the one claim", "green"),
        (("not_compared",), 0, False, "no loss shown; no claim was compared", "yellow"),
    ],
)  # fmt: skip
def test_the_whole_gate_in_a_line(outcomes, missing, allow, said, colour):
    assert conclusion(claims(*outcomes), [ABSENT] * missing, allow_missing=allow) == (said, colour)
    summary = gate_summary(claims(*outcomes), [ABSENT] * missing, [], None, allow_missing=allow)
    assert (summary["conclusion"], summary["colour"], summary["red"]) == (said, colour, colour == "red")
    kind = {"red": "error", "yellow": "warning", "green": "notice"}[colour]
    assert ci_annotations(summary) == [f"::{kind} title=tuneshift gate::{said}"]


def test_an_annotation_is_one_line_whatever_a_name_holds():
    summary = {"conclusion": "80 %\n::error::owned", "colour": "yellow", "sees_text": ""}
    (line,) = ci_annotations(summary)
    assert line == "::warning title=tuneshift gate::80 %25 ::error::owned"
