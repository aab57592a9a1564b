"""``tuneshift judges``: how a judge agrees with responses judged by hand."""

from __future__ import annotations

import argparse

from .common import OK, Commands


def add(commands: Commands) -> None:
    """Declare the command."""
    judges = commands.add_parser("judges", help="measure how a judge agrees with responses judged by hand")
    judges.add_argument(
        "--judge", default="verifier", metavar="JUDGE",
        help="verifier (default), similarity, openai:MODEL@URL or hf:CHECKPOINT",
    )  # fmt: skip
    judges.add_argument(
        "--word-vectors", default="minilm", metavar="SPACE",
        help="word space of the similarity judge: minilm (default), glove, a file, or embedded:micro/words.npz",
    )  # fmt: skip
    judges.set_defaults(command=_show_agreement)


def _show_agreement(arguments: argparse.Namespace) -> int:
    from ..judges.agreement import agreement_text
    from ..judges.registry import make_judge

    print(agreement_text(make_judge(arguments.judge, arguments.word_vectors)), end="")
    return OK
