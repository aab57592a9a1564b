"""``tuneshift annotators``: how an annotator agrees with lists labelled by hand."""

from __future__ import annotations

import argparse

from .common import OK, Commands


def add(commands: Commands) -> None:
    """Declare the command."""
    annotators = commands.add_parser("annotators", help="measure how an annotator agrees with lists labelled by hand")
    annotators.add_argument(
        "--annotator", default="embedding", metavar="ANNOTATOR",
        help="embedding (default), openai:MODEL@URL or hf:CHECKPOINT",
    )  # fmt: skip
    annotators.add_argument(
        "--word-vectors", default="minilm", metavar="SPACE",
        help="word space of the embedding annotator: minilm (default), glove, a file, or embedded:micro/words.npz",
    )  # fmt: skip
    annotators.set_defaults(command=_show_agreement)


def _show_agreement(arguments: argparse.Namespace) -> int:
    from ..annotators.agreement import agreement_text

    print(agreement_text(arguments.annotator, arguments.word_vectors), end="")
    return OK
