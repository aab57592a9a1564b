"""The pytest plugin: thin hooks. The only module that imports pytest, and, being loaded in every pytest run of the
user's environment, one that imports nothing heavy at its top.

A finding's test makes its claim, which is decided by itself, and passes, fails, skips or xfails where it runs: inside
pytest's own loop, so that other plugins see an ordinary test.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .errors import TuneshiftError
from .session.fields import COSTS, LOOK, PROBLEM_FIELD, SELECTION
from .session.interrupts import TERMINATED_CODE, on_sigterm
from .session.items import finding_of, makes_claim, place_of, target_of, waiting, wanted
from .session.options import (
    add_options,
    asks_for_suites,
    findings_named,
    foreign_configuration,
    read_options,
    templates_folder,
)

if TYPE_CHECKING:
    from .claims.claim import Claim
    from .claims.decisions import Key
    from .engine.progress import Bars
    from .plain import Json
    from .session.board import WorkerBoard
    from .session.gating import Gate
    from .session.run import RunSession

RUN: pytest.StashKey[RunSession] = pytest.StashKey()
CLAIMS: pytest.StashKey[dict[Key, dict[str, Json]]] = pytest.StashKey()
"""The run's claims: one for each finding, pair, prompt set and group, however often its test ran."""
STARTED: pytest.StashKey[float] = pytest.StashKey()
CLOCK: pytest.StashKey[float] = pytest.StashKey()
"""The monotonic clock at the start: the other one may be set while a run lasts."""
PROBLEM: pytest.StashKey[TuneshiftError] = pytest.StashKey()
GATE: pytest.StashKey[Gate | None] = pytest.StashKey()
WAITING: pytest.StashKey[Bars] = pytest.StashKey()
"""What says a line a minute while a test decides."""
AT_PAIR: pytest.StashKey[str] = pytest.StashKey()
"""The pair whose evidence is in memory."""
MADE: pytest.StashKey[dict[str, Json]] = pytest.StashKey()
"""Of an item: the claim that its test has made and may still fail after."""
CLAIM: pytest.StashKey[dict[str, Json]] = pytest.StashKey()
"""Of an item: the claim that its test ended with."""
TERMINATED: pytest.StashKey[bool] = pytest.StashKey()
ERRORS: pytest.StashKey[dict[Key, dict[str, Json]]] = pytest.StashKey()
"""Claims that could not be made, as the run record lists them; the last attempt of each counts."""
WRITTEN: pytest.StashKey[list[str]] = pytest.StashKey()
GATED: pytest.StashKey[dict[str, Json] | None] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """tuneshift's options, in a group of their own."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and, where suites are asked for, find the user's mistakes before anything starts."""
    config.addinivalue_line("markers", "finding(finding): the published finding that this test decides (tuneshift)")
    config.stash[CLAIMS] = {}
    config.stash[ERRORS] = {}
    config.stash[STARTED] = time.time()
    config.stash[CLOCK] = time.monotonic()
    if not _is_worker(config):
        from .session.workers import Collector, Workers

        config.pluginmanager.register(Collector(config.stash[CLAIMS], config.stash[ERRORS]), "tuneshift-collector")
        if asks_for_suites(config):
            config.pluginmanager.register(Workers(lambda: _gate(config)), "tuneshift-workers")
    if not asks_for_suites(config) or _is_worker(config):
        return
    if (restore := on_sigterm(lambda: config.stash.setdefault(TERMINATED, True))) is not None:
        config.add_cleanup(restore)
    try:
        from .session.checks import check_start

        check_start(_run(config), config.option)
    except TuneshiftError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """``--shift-plan`` runs nothing, so it needs no workers."""
    if config.option.shift_plan and hasattr(config.option, "numprocesses"):
        config.option.numprocesses, config.option.dist, config.option.tx = None, "no", []


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Name pairs, device, dtype, store and baselines."""
    if not asks_for_suites(config) or _is_worker(config):
        return []
    from .session.console import header_lines

    return [*header_lines(_run(config)), *foreign_configuration(config)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per finding, pair, prompt set and group."""
    marker = metafunc.definition.get_closest_marker("finding")
    if "claim" not in metafunc.fixturenames or marker is None:
        return
    try:
        targets = _run(metafunc.config).targets_of(marker.args[0])
    except TuneshiftError as error:
        # Raised as a usage error once collection is over: from here it would be one more collection error.
        metafunc.config.stash[PROBLEM] = error
        return
    metafunc.parametrize("claim", targets, ids=[t.id for t in targets], indirect=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, None, None]:
    """Stop on what was wrong with the pairs, keep the findings that ``--finding`` names, and, when others have selected
    and shuffled, let a pair's tests follow one another: they share its evidence."""
    if PROBLEM in config.stash or (config.option.finding and not session.testsfailed):
        _select(config, items)
    yield
    places = [index for index, item in enumerate(items) if makes_claim(item)]
    if places:
        pairs = [pair.name for pair in _run(config).pairs]
        ordered = sorted((items[index] for index in places), key=lambda item: pairs.index(target_of(item).pair.name))
        for index, item in zip(places, ordered, strict=True):
            items[index] = item


def _select(config: pytest.Config, items: list[pytest.Item]) -> None:
    findings = [finding_of(item).id if item.get_closest_marker("finding") else None for item in items]
    named: set[str] = set()
    try:
        if PROBLEM in config.stash:
            raise config.stash[PROBLEM]
        named = findings_named(config.option.finding, filter(None, findings))
    except TuneshiftError as error:
        if not _is_worker(config):
            raise pytest.UsageError(str(error)) from None
        # An error here would be a crash of the worker: run nothing, and let the controller say why.
        config.workeroutput[PROBLEM_FIELD] = str(error)  # type: ignore[attr-defined]
    found = list(zip(items, findings, strict=True))
    config.hook.pytest_deselected(items=[item for item, finding in found if finding not in named])
    items[:] = [item for item, finding in found if finding in named]


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Print the plan, or measure what is missing before the first test; xdist's workers measure pair by pair."""
    config = session.config
    claims = wanted(session)
    if config.option.shift_plan:
        from .session.planned import write_plan

        write_plan(_reporter(config), _run(config), claims)
        return True
    if not claims or config.option.collectonly or session.testsfailed or _is_worker(config):
        return None
    from .engine.progress import bars_on
    from .session.foresight import foretell
    from .session.waiting import lines_past_capture

    run = _run(config)
    try:
        run.reach(claims)
        foretell(_reporter(config), run, claims)
    except TuneshiftError as error:
        raise pytest.UsageError(str(error)) from None
    _gate(config)
    with _uncaptured(config):
        run.engine.bars = bars_on(sys.stderr)
        config.stash[WAITING] = lines_past_capture(sys.stderr, config.add_cleanup)
        run.measure(claims)
    return None


@pytest.fixture
def claim(request: pytest.FixtureRequest) -> Claim:
    """The finding of this test on one pair, prompt set and group; ``claim.decide(quantity)`` makes its claim."""
    run, target = _run(request.config), request.param
    if _is_worker(request.config):
        _board(request.config).begin(request.node.nodeid, place_of(request.node))
    _turn_to(target.pair.name, request.session)

    def conclude(record: dict[str, Json]) -> None:
        gate = _gate(request.config)
        request.node.stash[MADE] = record if gate is None else gate.compared(record)

    return run.claim(finding_of(request.node), target, conclude=conclude)


def _turn_to(pair: str, session: pytest.Session) -> None:
    """Let go of another pair's evidence; in a worker of xdist, measure what all selected tests of this one need."""
    config = session.config
    if config.stash.get(AT_PAIR, None) == pair:
        return
    run = _run(config)
    if AT_PAIR in config.stash:
        run.engine.forget()
    config.stash[AT_PAIR] = pair
    if _is_worker(config):
        from .engine.progress import lines_through

        config.stash[WAITING] = run.engine.bars = lines_through(_board(config).say)
        run.measure([(finding, target) for finding, target in wanted(session) if target.pair.name == pair])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """A test that made its claim ends as the claim says."""
    for key in (MADE, CLAIM):
        if key in pyfuncitem.stash:  # of an earlier run of the same test
            del pyfuncitem.stash[key]
    with waiting(pyfuncitem, pyfuncitem.config.stash.get(WAITING, None)):
        result = yield
    if MADE in pyfuncitem.stash:
        from .claims.claim_record import flat_properties
        from .run_record import PREFIX

        record = pyfuncitem.stash[CLAIM] = pyfuncitem.stash[MADE]
        others = [(name, value) for name, value in pyfuncitem.user_properties if not name.startswith(PREFIX)]
        pyfuncitem.user_properties[:] = [*others, *flat_properties(record)]
        _end_test(record, pyfuncitem.config.option)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Send the claim along with the report: plain JSON, so that it crosses to xdist's controller."""
    report = yield
    if call.when == "setup" and makes_claim(item) and not _is_worker(item.config):  # where --durations looks
        from .session.cost_table import charged_seconds

        report.duration += charged_seconds(_run(item.config), finding_of(item), target_of(item))
    if call.when == "call" and CLAIM in item.stash:
        report.tuneshift_claim = item.stash[CLAIM]
    if call.excinfo is not None and report.failed and _lacks_claim(item, report):
        from .session.endings import error_record

        report.tuneshift_error = error_record(place_of(item), call.excinfo.value, pytest.fail.Exception)
    return report


def _lacks_claim(item: pytest.Item, report: pytest.TestReport) -> bool:
    """Whether a finding's test ended without a claim."""
    return report.when != "teardown" and CLAIM not in item.stash and makes_claim(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """A TuneshiftError is a message to the user: shown with finding and pair, without our stack."""
    try:
        return (yield)
    except TuneshiftError as error:
        if item.get_closest_marker("finding") is None:
            raise
        message = f"{finding_of(item).id} on {target_of(item).id}: {error}"
    # Outside the except block, so that pytest does not print the chain of causes.
    pytest.fail(message, pytrace=False)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write run.json, the summary and the report."""
    config = session.config
    if TERMINATED in config.stash:
        session.exitstatus = exitstatus = TERMINATED_CODE
    if _is_worker(config):
        config.workeroutput |= {SELECTION: _selection(session), COSTS: _costs(config)}  # type: ignore[attr-defined]
        return
    by_key, errors = config.stash[CLAIMS], list(config.stash[ERRORS].values())
    if not (by_key or errors):
        return
    from .session.finish import finish

    finished = finish(
        _run(config), list(by_key.values()), errors, gate=config.stash.get(GATE, None), selection=_selection(session),
        costs=_costs(config), out=Path(config.option.shift_out), started=config.stash[STARTED],
        duration=time.monotonic() - config.stash[CLOCK], exit_code=int(exitstatus),
        arguments=config.invocation_params.args, templates=templates_folder(config),
    )  # fmt: skip
    by_key.update(zip(by_key, finished.claims, strict=True))
    config.stash[WRITTEN] = finished.lines
    config.stash[GATED] = finished.gate
    session.exitstatus = finished.exit_code


def _selection(session: pytest.Session) -> list[list[str]] | None:
    """The places that a run asked, None for all; of xdist's controller, which collects nothing, as its workers said."""
    if not (asked := wanted(session)):
        return getattr(session.config.pluginmanager.get_plugin("tuneshift-collector"), "selection", None)
    from .session.gating import selected

    return selected(_run(session.config), asked)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table of verdicts and where the files lie; after SIGTERM, how to go on."""
    if TERMINATED in config.stash:
        command = shlex.join(["pytest", *map(str, config.invocation_params.args)])
        terminalreporter.write_line(
            f"tuneshift: ended by SIGTERM; every finished chunk is kept. Resume with the same command: {command}"
        )
    claims, errors = config.stash[CLAIMS], config.stash[ERRORS]
    if claims or errors:
        from .session.console import write_summary

        option, written = config.option, config.stash[WRITTEN]
        write_summary(
            terminalreporter, list(claims.values()), written, option.shift_alpha,
            inconclusive=option.shift_inconclusive, errors=len(errors), gate=config.stash[GATED],
        )  # fmt: skip
        if config.get_verbosity() > 0:
            from .session.cost_table import write_costs

            write_costs(terminalreporter, _costs(config))


def _run(config: pytest.Config) -> RunSession:
    if RUN not in config.stash:
        from .claims.catalogue import findings
        from .session.growing import EarlierRun
        from .session.run import RunSession

        earlier = EarlierRun(path=Path(config.option.shift_out) / "run.json")
        config.stash[RUN] = RunSession(options=read_options(config), known_findings=findings, earlier=earlier)
    return config.stash[RUN]


def _costs(config: pytest.Config) -> list[dict[str, Json]]:
    """What measuring cost, here and in workers."""
    own = _run(config).engine.costs if RUN in config.stash else []
    collector = config.pluginmanager.get_plugin("tuneshift-collector")
    return [*(cost.plain() for cost in own), *getattr(collector, "costs", ())]


def _gate(config: pytest.Config) -> Gate | None:
    """The comparison with a baseline that the run asks for. Raises pytest's UsageError where no look is left."""
    if config.option.shift_compare is None:
        return None
    if GATE not in config.stash:
        from .gate.rates import Look
        from .session.gating import open_gate

        given = config.workerinput.get(LOOK) if _is_worker(config) else None  # type: ignore[attr-defined]
        try:
            config.stash[GATE] = open_gate(_run(config), None if given is None else Look(**given))
        except TuneshiftError as error:
            raise pytest.UsageError(str(error)) from None
    return config.stash[GATE]


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _board(config: pytest.Config) -> WorkerBoard:
    from .session.board import WorkerBoard

    return WorkerBoard.of(config.workerinput)  # type: ignore[attr-defined]


def _reporter(config: pytest.Config) -> pytest.TerminalReporter:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    assert isinstance(reporter, pytest.TerminalReporter)
    return reporter


def _uncaptured(config: pytest.Config) -> Any:
    return config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled()  # type: ignore[union-attr]


def _end_test(record: dict[str, Json], option: Any) -> None:
    """End the test as its claim says."""
    from .session.endings import ending

    how, message = ending(record, option.shift_inconclusive, gate_inconclusive=option.shift_gate_inconclusive,
                          allow_missing=option.shift_allow_missing)  # fmt: skip
    if how == "fail":
        pytest.fail(message, pytrace=False)
    elif how == "skip":
        pytest.skip(message)
    elif how == "xfail":
        pytest.xfail(message)
