"""``tuneshift findings``: what the shipped suites claim, and what deciding it takes."""

from __future__ import annotations

import argparse
import json
import textwrap

from .common import OK, Commands

WIDTH = 100
DIRECTIONS = {
    "greater": "effect above {bound:g}",
    "less": "effect below -{sesoi:g}",
    "equivalent": "effect between -{sesoi:g} and {sesoi:g}",
}
"""What the interval must lie in for the finding to be reproduced."""


def add(commands: Commands) -> None:
    """Declare the command."""
    findings = commands.add_parser("findings", help="list findings: claim, source, what they need, what decides them")
    findings.add_argument("--json", action="store_true", help="all fields of every finding, as a JSON list")
    findings.set_defaults(command=_show_findings)


def _show_findings(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from ..claims.catalogue import findings

    found = findings()
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in found], indent=1, ensure_ascii=False))
        return OK
    for finding in found:
        decides = DIRECTIONS[finding.direction].format(sesoi=finding.sesoi, bound=finding.bound)
        needs = ", ".join(f"{role} {need}" for role, need in finding.needs)
        print(finding.id)
        for label, text in (
            ("claim", finding.claim),
            ("source", finding.source),
            ("reproduced", f"{decides} ({finding.unit}), over {finding.items}"),
            ("needs", needs),
        ):
            print(textwrap.fill(text, WIDTH, initial_indent=f"  {label + ':':12}", subsequent_indent=" " * 14))
    print(f"{len(found)} findings")
    return OK
