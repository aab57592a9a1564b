"""A run record as one HTML file. Reads plain JSON types only and never imports torch.

The templates in ``reports/templates`` own the markup, display.py how values look; this module decides what is shown.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections import Counter
from pathlib import Path

from jinja2 import ChainableUndefined, ChoiceLoader, Environment, FileSystemLoader, TemplateError
from jinja2.ext import Extension
from markupsafe import Markup

from ..errors import RecordError, UsageError
from ..files import publish
from ..resources import checked_templates, data_folder
from ..run_record import RunRecord
from . import values as display
from .changes import CHANGES, change_sentence, changed
from .claims import View, finding_views
from .conclusion import SHAPES, declared, headline, one_draw, unmade, worst
from .items import ValueColumns
from .pairs import matrix_rows, pair_names, small_multiples
from .prompts import example_views, shared_out
from .several_runs import runs_of
from .values import estimate, shown

SCHEMA = 1
MANY_CLAIMS = 60
"""Claims from which on arms have a line of numbers in place of their histograms, two fifths of a page's weight."""


class Dedent(Extension):
    """Templates without their indentation, which is 60 kB of a page with ten pairs."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """The template's source with every line from its first sign on."""
        return re.sub(r"(?m)^[ \t]+", "", source)


def environment(templates: Path | None = None) -> Environment:
    """Jinja over the packaged templates: autoescape always on, missing values print as dashes.

    Templates of the same name in the folder ``templates`` come first. Raises UsageError where it is no folder.
    """
    packaged = FileSystemLoader(data_folder("reports") / "templates")
    loader = packaged if templates is None else ChoiceLoader([FileSystemLoader(checked_templates(templates)), packaged])
    jinja = Environment(
        loader=loader,
        autoescape=True,
        finalize=shown,
        undefined=ChainableUndefined,
        trim_blocks=True,
        extensions=[Dedent],
    )
    names = ("finite", "number", "p_value", "plain", "percent", "moment", "linked", "cut", "unbroken")
    jinja.filters |= {name: getattr(display, name) for name in names}
    jinja.filters["estimate"] = lambda row: estimate(row.get("effect"), row.get("interval"))
    jinja.globals |= {"shapes": SHAPES, "changes": CHANGES}
    return jinja


def render_html(record: RunRecord, templates: Path | None = None) -> str:
    """The run record as one self-contained HTML page that loads nothing and is readable without JavaScript.

    Raises RecordError for a schema that this version does not know, and UsageError where ``templates`` is no folder or
    one of its templates fails.
    """
    if record.schema != SCHEMA:
        raise RecordError(
            f"The run record has schema {record.schema!r}; this version reads {SCHEMA}. Update tuneshift."
        )
    jinja = environment(templates)
    try:
        page = jinja.get_template("report.html").render(page_view(record, jinja))
    except TemplateError as error:
        if templates is None:
            raise
        place = f"{getattr(error, 'filename', None) or templates}, line {getattr(error, 'lineno', '?')}"
        raise UsageError(
            f"A template fails ({place}): {error}. Mend it, or leave out the folder {templates}."
        ) from error
    return page.encode("utf-8", "replace").decode("utf-8")


def page_view(record: RunRecord, jinja: Environment) -> View:
    """Everything that report.html prints."""
    findings = finding_views(record.claims)
    claims = [c for f in findings for c in f["claims"]]
    runs = runs_of(record)
    pairs = pair_names(claims)
    values = ValueColumns()
    for claim in claims:
        values.add(claim)
    script = jinja.get_template("report.js").render()
    return {
        "run": record.run,
        "runs": runs,
        "pairs": record.pairs,
        "pair_names": pairs,
        "matrix": matrix_rows(findings) if len(pairs) > 1 else [],
        "panels": small_multiples(findings) if len(pairs) > 1 else [],
        "findings": findings,
        "claims": claims,
        "examples": example_views(shared_out(record.examples)),
        "many_claims": len(claims) > MANY_CLAIMS,
        "examples_held": len(record.examples),
        "counts": Counter(c["verdict"] for c in claims),
        "headline": headline(claims),
        "errors": record.errors,
        "unmade": unmade(len(record.errors)),
        "declared": declared(claims),
        "one_draw": one_draw(claims),
        "change": change_sentence(claims, runs),
        "changed": changed(claims),
        "worst": worst(claims),
        "values": values.block(),
        "script": Markup(script),
        # Only this very script may run, whatever a model wrote.
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }


def write_report(record: RunRecord, out: str | os.PathLike[str], templates: Path | None = None) -> Path:
    """Write the HTML report to ``out`` in one step, so that a reader never meets half a file; returns its path.

    Raises UsageError where the place cannot be written, and what ``render_html`` raises.
    """
    return write_text(Path(out), render_html(record, templates), "report")


def write_text(out: Path, text: str, what: str) -> Path:
    """Write a page or a summary whole or not at all; returns ``out``. Raises UsageError where it cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        publish(out, text.encode())
    except IsADirectoryError as error:
        raise UsageError(f"Cannot write the {what} to {out}: it is a folder. Name a file in it.") from error
    except OSError as error:
        why = error.strerror or error
        raise UsageError(f"Cannot write the {what} to {out}: {why}. Name a place that can be written.") from error
    return out
