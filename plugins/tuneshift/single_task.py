"""The single task that a pair's sibling was tuned on: which prompts lie outside it, and does its style fade there?"""

from __future__ import annotations

from .following import LeaveOut, Source, within
from .following_style import style_fades
from .judges import TextSpace
from .records import ModelPair, Statistic
from .tuning_data import read_examples
from .views import NotApplicable, Quantity, View


def outside_single_task(pair: ModelPair) -> LeaveOut | None:
    """Which prompts are of the pair's single task and do not count; None where the pair does not say."""
    return within(pair.single_task.prompts) if pair.single_task else None


def single_task_style_fades(source: Source, word_vectors: str) -> Quantity:
    """`style_fades` for the pair's own single task, in the word space ``word_vectors``.

    Raises NotApplicable where the pair names no examples of the task; UsageError for a file of examples that is not in
    the form of ``docs/tuning.md``.
    """

    def quantity(view: View) -> Statistic:
        task = view.pair.single_task
        if task is None:
            raise NotApplicable("the pair does not say what its single task was; set `single_task` in the pair file")
        rows = read_examples(task.examples, "single-task").rows
        domain = [(row.prompt[-1]["content"], row.response) for row in rows]
        return style_fades(source, domain=domain, vectors=TextSpace(word_vectors))(view)

    return quantity
