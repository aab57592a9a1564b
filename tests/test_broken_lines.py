"""docs/broken_lines.py: lines of prose that a wrapper broke after one word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "docs" / "broken_lines.py"
DOCSTRING = '"""A quantity that is taken from one checkpoint and\n{}\nis given for every prompt of the set."""\n'
COMMENT = "# A worker starts a test only when it knows the\n# {}\n# one, or that there is none.\n"
PARTS = 'text = (\n    "Each score is the sum of densities. "\n    "{} "\n    "effect is their mean."\n)\n'


def lines(tmp_path: Path, source: str) -> list[str]:
    """What the script says of a file of this source."""
    path = tmp_path / "module.py"
    path.write_text(source)
    done = subprocess.run([sys.executable, SCRIPT, path], capture_output=True, text=True)
    assert (done.returncode == 1) == bool(done.stdout), done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(("source", "number"), [(DOCSTRING, 2), (COMMENT, 2), (PARTS, 3)])
@pytest.mark.parametrize("word", ["the", "user's", "(Frobenius)", "decides,"])
def test_one_word_alone_in_a_sentence_is_named(tmp_path, source, number, word):
    (line,) = lines(tmp_path, source.format(word))
    assert line.startswith(f"{tmp_path / 'module.py'}:{number}: one word alone")


@pytest.mark.parametrize(
    "source",
    [
        DOCSTRING.format("the seed,"),
        DOCSTRING.format("- item"),
        DOCSTRING.format("=========="),
        DOCSTRING.format("call(x);"),
        DOCSTRING.format(""),
        '"""A paragraph that ends in a line of one\nword.\n\nAnother paragraph."""\n',
        '"""The last line holds one\nword.\n"""\n',
        COMMENT.format("next one, and no other"),
        'names = [\n    "a string that stands alone in a list",\n    "the",\n    "next"\n]\n',
    ],
)
def test_what_a_writer_means_is_left_alone(tmp_path, source):
    assert lines(tmp_path, source) == []
