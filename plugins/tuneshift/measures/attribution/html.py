"""An attribution as HTML: for notebooks a fragment, for browsers a page. No script, nothing from a network.

Every text comes from a prompt or a model, so all of it is escaped.
"""

from __future__ import annotations

import tempfile
import webbrowser
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .density import Attribution

CELLS = 6000
"""Cells of the map of levels that are shown: half a megabyte of HTML. Response tokens beyond are named, not drawn."""

STYLE = """
.tuneshift-a { font: 14px/1.6 system-ui, sans-serif; max-width: 60rem; }
.tuneshift-a .t { padding: .1em .05em; border-radius: .2em; white-space: pre-wrap; }
.tuneshift-a .i { border-bottom: 2px solid currentColor; }
.tuneshift-a .c { opacity: .55; }
.tuneshift-a table { border-collapse: collapse; font-size: 12px; }
.tuneshift-a th, .tuneshift-a td { padding: .1em .35em; text-align: right; white-space: pre; }
.tuneshift-a thead th { writing-mode: vertical-rl; }
.tuneshift-a .scroll { overflow: auto; max-height: 32rem; }
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
</head>
<body>
{body}
</body>
</html>
"""


def fragment(attribution: Attribution) -> str:
    """The prompt with each token's density, the response, and the map of levels [prompt token, response token]."""
    density = attribution.density.tolist()
    tokens = "".join(
        f'<span class="{_classes(attribution, n)}" style="{_tint(x)}" title="{x:.2f}">{_text(token)}</span>'
        for n, (token, x) in enumerate(zip(_tokens(attribution), density, strict=True))
    )
    marks = " Underlined: the instruction." if attribution.instruction.any() else ""
    marks += " Faint: tokens of the chat template." if not attribution.user.all() else ""
    response = attribution.response or "".join(attribution.response_tokens)
    return (
        f'<div class="tuneshift-a"><style>{STYLE}</style>'
        f"<p><b>Prompt</b>, tinted by importance density (0 to 1; point at a token for its number).{marks}</p>"
        f"<p>{tokens}</p><p><b>Response</b>{_ended(attribution)}</p>"
        f'<p style="white-space: pre-wrap">{_escaped(response)}</p>{_map(attribution, density)}</div>'
    )


def page(attribution: Attribution) -> str:
    """The fragment as a page of its own."""
    return PAGE.format(title=f"Attribution: {_escaped(attribution.id)}", body=fragment(attribution))


def show(attribution: Attribution, path: Path | None) -> Path | None:
    """Display it in a notebook and return None; else open it as a page, written to ``path`` or a new temporary file."""
    if path is None and _in_notebook():
        from IPython.display import HTML, display  # in a notebook it is there

        display(HTML(fragment(attribution)))
        return None
    if path is None:
        with tempfile.NamedTemporaryFile(prefix="tuneshift-", suffix=".html", delete=False) as file:
            path = Path(file.name)
    path.write_text(page(attribution), encoding="utf-8", errors="replace")
    webbrowser.open(path.absolute().as_uri())
    return path


def _in_notebook() -> bool:
    """Whether a kernel runs this: IPython in a terminal displays no HTML."""
    import sys

    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def _tokens(attribution: Attribution) -> tuple[str, ...]:
    """The prompt's tokens; their numbers where no display strings were kept."""
    return attribution.tokens or tuple(f" {n}" for n in range(len(attribution.levels)))


def _classes(attribution: Attribution, n: int) -> str:
    return "t" + " i" * bool(attribution.instruction[n]) + " c" * (not attribution.user[n])


def _ended(attribution: Attribution) -> str:
    if attribution.ended is None:
        return ""
    return ", ended by the model" if attribution.ended else ", cut at the longest length"


def _map(attribution: Attribution, density: list[float]) -> str:
    rows, columns = attribution.levels.shape
    if not columns:
        return "<p>The response has no token, so nothing has importance.</p>"
    shown = max(1, min(columns, CELLS // max(rows, 1)))
    rest = f" The first {shown} of {columns} response tokens." if shown < columns else ""
    across = attribution.response_tokens or tuple(map(str, range(columns)))
    head = "".join(f"<th>{_text(token)}</th>" for token in across[:shown])
    body = "".join(
        f"<tr><th>{_text(token)}</th><td>{x:.2f}</td>"
        + "".join(f'<td style="{_tint(level / 10)}">{level}</td>' for level in row)
        + "</tr>"
        for token, x, row in zip(_tokens(attribution), density, attribution.levels[:, :shown].tolist(), strict=True)
    )
    return (
        f"<details><summary>Levels of importance, 0 to 10: prompt tokens down, response tokens across.{rest}</summary>"
        f'<div class="scroll"><table><thead><tr><th>token</th><th>density</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></details>"
    )


def _tint(share: float) -> str:
    """A background that text in light and dark pages stays readable on."""
    return f"background: rgba(230, 130, 30, {0.75 * share:.2f})"


def _text(token: str) -> str:
    """A token with what cannot be seen shown: a line break gets a sign and breaks the line."""
    return _escaped(token).replace("\n", "⏎\n")


def _escaped(text: str) -> str:
    return escape(text.encode("utf-8", "replace").decode("utf-8"), quote=True)
