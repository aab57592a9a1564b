"""What the process that reports does: it gathers claims, and gives xdist's workers their order, devices and look.

Loaded with the plugin in every pytest run, so it imports nothing heavy at its top.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from .fields import BOARD, COSTS, LOOK, PROBLEM_FIELD, SELECTION

if TYPE_CHECKING:
    import execnet
    from xdist.workermanage import WorkerController

    from ..claims.decisions import Key
    from ..plain import Json
    from .board import Board
    from .gating import Gate

ENDED = (
    "It was killed from outside, as for want of memory, or broke down. Finished chunks are kept: run again, with fewer "
    "workers (-n) where memory is short."
)

Records = dict["Key", dict[str, "Json"]]


class Collector:
    """Gathers claims, and why others could not be made, from reports as they come in; and what workers found wrong."""

    def __init__(self, claims: Records, errors: Records) -> None:
        self._claims, self._errors = claims, errors
        self._problem: str | None = None
        self.selection: list[list[str]] | None = None
        """What workers of xdist were asked for, `gating.selected`."""
        self.costs: list[dict[str, Json]] = []
        """What workers of xdist measured."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Keep the problem of a worker of xdist, and what it was asked for."""
        said = getattr(node, "workeroutput", {})
        self._problem = said.get(PROBLEM_FIELD, self._problem)
        self.selection = said.get(SELECTION, self.selection)
        self.costs += said.get(COSTS, ())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, Any, Any]:
        """Stop on the problem of a worker."""
        result = yield
        if self._problem is not None:
            raise pytest.UsageError(self._problem)
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the claim that a report carries, or why there is none: the last of each, however often a test ran."""
        if report.failed and (hasattr(report, "tuneshift_claim") or hasattr(report, "tuneshift_error")):
            _head_alone_(report)
        for kept, name in ((self._claims, "tuneshift_claim"), (self._errors, "tuneshift_error")):
            found = getattr(report, name, None)
            if found is not None:
                from ..claims.decisions import claim_key

                kept[claim_key(found)] = found


def _head_alone_(report: pytest.TestReport) -> None:
    """Leave the first line of a failure's message for pytest's short summary, which would print all of it a second time
    where ``$CI`` is set. The failure's own section keeps the whole."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        crash.message = crash.message.partition("\n")[0]


class Workers:
    """xdist's workers where suites run. ``gate``: the run's comparison with a baseline, whose look is taken once."""

    def __init__(self, gate: Callable[[], Gate | None]) -> None:
        self._gate = gate
        self._board: Board | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: WorkerController) -> None:
        """The look at a baseline that all workers of a run decide at: taken once, here."""
        if (gate := self._gate()) is not None:
            node.workerinput[LOOK] = asdict(gate.look)
        node.workerinput[BOARD] = str(self._opened(node.config).folder)

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: Any) -> None:
        """The claim that a worker was at when it ended is one that could not be made."""
        place = None if self._board is None else self._board.place_of(crashitem)
        if place is not None:
            report.tuneshift_error = {**place, "message": f"{report.longrepr}. {ENDED}"}

    def pytest_unconfigure(self) -> None:
        """Take the workers' folder away."""
        if self._board is not None:
            self._board.close()

    def _opened(self, config: pytest.Config) -> Board:
        """The folder in which workers say how far they are; what they say goes to the terminal."""
        if self._board is None:
            from .board import Board

            terminal = config.pluginmanager.get_plugin("terminalreporter")

            def say(line: str) -> None:
                if terminal is not None:
                    terminal.ensure_newline()
                    terminal.write_line(f"tuneshift: {line}")

            self._board = Board()
            self._board.follow(say)
        return self._board

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """tuneshift's scheduler; ``--dist each`` and ``no`` keep xdist's."""
        if config.getvalue("dist") in ("each", "no"):
            return None
        from .scheduling import CheckpointScheduling

        return CheckpointScheduling(config, log)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, config: pytest.Config, specs: Sequence[execnet.XSpec]) -> None:
        """A GPU for each worker."""
        from .scheduling import pin_devices, visible_devices

        pin_devices(specs, visible_devices())
