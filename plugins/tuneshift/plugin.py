"""The pytest plugin: thin hooks. The only module that imports pytest, and, being loaded in every pytest run of the
user's
environment, one that imports nothing heavy at its top."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .errors import TuneshiftError
from .session.options import add_options, asks_for_suites, read_options, templates_folder

if TYPE_CHECKING:
    from types import FrameType

    import execnet

    from .claims.claim import Claim
    from .claims.finding import Finding
    from .plain import Json
    from .session.requests import Target
    from .session.run import Run

RUN: pytest.StashKey[Run] = pytest.StashKey()
CLAIMS: pytest.StashKey[list[dict[str, Json]]] = pytest.StashKey()
STARTED: pytest.StashKey[float] = pytest.StashKey()
CLOCK: pytest.StashKey[float] = pytest.StashKey()
"""The monotonic clock at the start: the other one may be set while a run lasts."""
PROBLEM: pytest.StashKey[TuneshiftError] = pytest.StashKey()
CLAIM: pytest.StashKey[dict[str, Json]] = pytest.StashKey()
"""Of an item: its claim as the test made it."""
DECIDED: pytest.StashKey[dict[str, Json]] = pytest.StashKey()
"""Of an item: its claim with the verdict that all claims of the run together leave it."""
RAISED: pytest.StashKey[BaseException] = pytest.StashKey()
"""Of an item: what ended its test where it was no verdict."""
SURVEYED: pytest.StashKey[bool] = pytest.StashKey()
TERMINATED: pytest.StashKey[bool] = pytest.StashKey()
TERMINATED_CODE = 128 + 15
"""What shells and schedulers make of SIGTERM."""
ERRORS: pytest.StashKey[list[dict[str, Json]]] = pytest.StashKey()
"""Claims that could not be made, as the run record lists them."""
WRITTEN: pytest.StashKey[list[str]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """tuneshift's options, in a group of their own."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and, where suites are asked for, find the user's mistakes before anything starts."""
    config.addinivalue_line("markers", "finding(finding): the published finding that this test decides (tuneshift)")
    config.stash[CLAIMS] = []
    config.stash[ERRORS] = []
    config.stash[STARTED] = time.time()
    config.stash[CLOCK] = time.monotonic()
    if not asks_for_suites(config) or _is_worker(config):
        return
    _end_on_sigterm(config)
    try:
        _run(config).check()
        if not (config.option.shift_plan or config.option.collectonly):
            from .session.console import require_output_folder

            require_output_folder(Path(config.option.shift_out))
        if config.option.shift_save or config.option.shift_compare or config.option.shift_margin:
            from .session.gating import check_gating

            check_gating(_run(config))
    except TuneshiftError as error:
        raise pytest.UsageError(str(error)) from None


def _end_on_sigterm(config: pytest.Config) -> None:
    """Have SIGTERM, by which clusters announce that they take the machine, end the run as SIGINT does.

    Not where somebody else handles it, nor outside the main thread. A second one ends the process at once.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        config.stash[TERMINATED] = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise KeyboardInterrupt

    def restore() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, interrupt)
    config.add_cleanup(restore)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """``--shift-plan`` runs nothing, so it needs no workers."""
    if config.option.shift_plan and hasattr(config.option, "numprocesses"):
        config.option.numprocesses, config.option.dist, config.option.tx = None, "no", []


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Name pairs, device, dtype and store."""
    if not asks_for_suites(config) or _is_worker(config):
        return []
    from .session.console import header_lines

    return header_lines(_run(config))


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


def pytest_collection_modifyitems(config: pytest.Config) -> None:
    """Stop on what was wrong with the pairs."""
    if PROBLEM in config.stash:
        raise pytest.UsageError(str(config.stash[PROBLEM]))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Print the plan, or measure what is missing before the first test; xdist's workers measure in the survey."""
    config = session.config
    wanted = _wanted(session)
    if config.option.shift_plan:
        from .session.console import write_plan

        write_plan(_reporter(config), _run(config), wanted)
        return True
    if not wanted or config.option.collectonly or session.testsfailed or _is_worker(config):
        return None
    from .engine.progress import bars_on

    run = _run(config)
    try:
        run.reach(wanted)
    except TuneshiftError as error:
        raise pytest.UsageError(str(error)) from None
    with _uncaptured(config):
        run.engine.bars = bars_on(sys.stderr)
        run.measure(wanted)
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    """Make every claim of the run before the first one's test: they share an error rate, so none is decided alone."""
    if item.get_closest_marker("finding") and SURVEYED not in item.config.stash:
        item.config.stash[SURVEYED] = True
        _survey(item.session)


def _survey(session: pytest.Session) -> None:
    """Run the tests of findings without reporting them, and leave each item its decided claim.

    A test that ends for another reason than its verdict leaves none, and ends the same when its turn comes.
    """
    from _pytest.runner import runtestprotocol

    from .claims.decisions import decide
    from .engine.progress import bars_on, silent_bars

    run, items = _run(session.config), _finding_items(session)
    if _is_worker(session.config):
        _measure_in_turn(session.config, run, items)
    items.sort(key=lambda item: run.pairs.index(_target(item).pair))
    made = []
    bars = silent_bars if _is_worker(session.config) else bars_on(sys.stderr)
    with bars("statistics", len(items), 0, "claim") as bar:
        for item, following in zip(items, [*items[1:], None], strict=True):
            reports = runtestprotocol(item, log=False, nextitem=following)
            if CLAIM in item.stash and not any(report.failed for report in reports):
                made.append(item)
            if following is None or _target(following).pair is not _target(item).pair:
                run.engine.forget()
            bar.update(1)
    claims: list[dict[str, Json]] = [item.stash[CLAIM] for item in made]
    decisions = decide(claims, run.options.alpha)
    if run.options.gating.compare is not None and claims:
        from .session.gating import compared

        try:
            decisions = compared(run, decisions)
        except TuneshiftError as error:
            pytest.exit(f"tuneshift: {error}", returncode=pytest.ExitCode.USAGE_ERROR)
    for item, decided in zip(made, decisions, strict=True):
        item.stash[DECIDED] = decided


def _measure_in_turn(config: pytest.Config, run: Run, items: Sequence[pytest.Item]) -> None:
    """In a worker of xdist: measure every n-th pair first, then what the other workers have not measured by then."""
    info: dict[str, Any] = config.workerinput  # type: ignore[attr-defined]
    own, count = int(info["workerid"].removeprefix("gw")), int(info["workercount"])
    for pair in sorted(run.pairs, key=lambda pair: (run.pairs.index(pair) - own) % count):
        run.measure([(_finding(item), _target(item)) for item in items if _target(item).pair is pair])


@pytest.fixture
def claim(request: pytest.FixtureRequest) -> Claim:
    """The finding of this test on one pair, prompt set and group; ``claim.decide(quantity)`` makes its claim."""

    def conclude(record: dict[str, Json]) -> None:
        request.node.stash[CLAIM] = record

    return _run(request.config).claim(_finding(request.node), request.param, conclude=conclude)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that the survey ran ends as its decided claim says, or with what ended it there."""
    if RAISED in pyfuncitem.stash:
        raise pyfuncitem.stash[RAISED]
    if DECIDED not in pyfuncitem.stash:
        return None
    from .claims.claim_record import flat_properties

    record = pyfuncitem.stash[DECIDED]
    pyfuncitem.user_properties.extend(flat_properties(record))
    _end_test(record, pyfuncitem.config.option.shift_inconclusive)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Send the claim along with the report: plain JSON, so that it crosses to xdist's controller."""
    report = yield
    if call.when == "call" and DECIDED in item.stash:
        report.tuneshift_claim = item.stash[DECIDED]
    elif call.when == "call" and call.excinfo is not None and item.get_closest_marker("finding"):
        item.stash[RAISED] = call.excinfo.value
    if call.excinfo is not None and report.failed and _lacks_claim(item, report):
        report.tuneshift_error = _error_record(item, call.excinfo.value)
    return report


def _error_record(item: pytest.Item, error: BaseException) -> dict[str, Json]:
    """A claim that could not be made, as the run record lists it."""
    from .checkpoints.quiet import first_line

    target = _target(item)
    said = str(error) if isinstance(error, TuneshiftError | pytest.fail.Exception) else first_line(error)
    where = {"pair": target.pair.name, "prompts": target.on, "group": target.group}
    return {"finding": _finding(item).id, **where, "message": said}


def _lacks_claim(item: pytest.Item, report: pytest.TestReport) -> bool:
    """Whether a finding's test ended without a claim."""
    return report.when != "teardown" and DECIDED not in item.stash and item in _finding_items(item.session)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """A TuneshiftError is a message to the user: shown with finding and pair, without our stack."""
    try:
        return (yield)
    except TuneshiftError as error:
        if item.get_closest_marker("finding") is None:
            raise
        message = f"{_finding(item).id} on {_target(item).id}: {error}"
    # Outside the except block, so that pytest does not print the chain of causes.
    pytest.fail(message, pytrace=False)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Collect claims in the process that reports, which under xdist is the controller."""
    if not _is_worker(session.config):
        session.config.pluginmanager.register(_Collector(session.config), "tuneshift-collector")


class _Collector:
    """Gathers claims from reports as they come in."""

    def __init__(self, config: pytest.Config) -> None:
        self._claims = config.stash[CLAIMS]
        self._errors = config.stash[ERRORS]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the claim that a report carries, or why there is none."""
        found = getattr(report, "tuneshift_claim", None)
        if found is not None:
            self._claims.append(found)
        failed = getattr(report, "tuneshift_error", None)
        if failed is not None:
            self._errors.append(failed)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write run.json, the summary and the report."""
    config = session.config
    if TERMINATED in config.stash:
        session.exitstatus = exitstatus = TERMINATED_CODE
    claims, errors = config.stash[CLAIMS], config.stash[ERRORS]
    if _is_worker(config) or not (claims or errors):
        return
    from .session.console import update_expectations, write_results

    run = _run(config)
    updated, failed = update_expectations(run, claims) if run.options.update_expectations else ([], False)
    if failed and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = exitstatus = pytest.ExitCode.TESTS_FAILED
    config.stash[WRITTEN], unwritten = write_results(
        run,
        claims,
        errors,
        out=Path(config.option.shift_out),
        started=config.stash[STARTED],
        duration=time.monotonic() - config.stash[CLOCK],
        exit_code=int(exitstatus),
        arguments=config.invocation_params.args,
        templates=templates_folder(config),
    )
    if unwritten and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    config.stash[WRITTEN] += updated


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

        written = config.stash[WRITTEN]
        write_summary(terminalreporter, claims, written, errors=len(errors))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """tuneshift's scheduler where suites run; any other run keeps xdist's."""
    if not asks_for_suites(config) or config.getvalue("dist") in ("each", "no"):
        return None
    from .session.scheduling import CheckpointScheduling

    return CheckpointScheduling(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: Sequence[execnet.XSpec]) -> None:
    """A GPU for each worker."""
    if asks_for_suites(config):
        from .session.scheduling import pin_devices, visible_devices

        pin_devices(specs, visible_devices())


def _run(config: pytest.Config) -> Run:
    if RUN not in config.stash:
        from .claims.catalogue import findings
        from .session.run import Run

        config.stash[RUN] = Run(options=read_options(config), known_findings=findings)
    return config.stash[RUN]


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _reporter(config: pytest.Config) -> pytest.TerminalReporter:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    assert isinstance(reporter, pytest.TerminalReporter)
    return reporter


def _uncaptured(config: pytest.Config) -> Any:
    return config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled()  # type: ignore[union-attr]


def _finding(item: pytest.Item) -> Finding:
    marker = item.get_closest_marker("finding")
    assert marker is not None
    found: Finding = marker.args[0]
    return found


def _target(item: pytest.Item) -> Target:
    target: Target = item.callspec.params["claim"]  # type: ignore[attr-defined]
    return target


def _finding_items(session: pytest.Session) -> list[pytest.Item]:
    return [
        item
        for item in session.items
        if item.get_closest_marker("finding") and "claim" in getattr(getattr(item, "callspec", None), "params", {})
    ]


def _wanted(session: pytest.Session) -> list[tuple[Finding, Target]]:
    return [(_finding(item), _target(item)) for item in _finding_items(session)]


def _end_test(record: dict[str, Json], inconclusive: str) -> None:
    """Pass, fail, skip or xfail as the comparison with a baseline says where one was made; else as the verdict and the
    declared expectation say."""
    from .session.console import explain

    verdict, expected = record["verdict"], record["expected"]
    compared = (record["comparison"] or {}).get("outcome", "not_compared")
    if compared != "not_compared":
        _end_compared(record, compared, inconclusive)
        return
    message = explain(record)
    if expected and expected["verdict"] == verdict:
        if verdict != "reproduced":
            pytest.xfail(f"{verdict}, as declared: {expected['reason']}")
    elif expected:
        pytest.fail(
            f"declared as {expected['verdict']} ({expected['reason']}), but it is {verdict}. "
            f"If that is news, change the expectations file.\n{message}",
            pytrace=False,
        )
    elif verdict == "not_applicable":
        pytest.skip(record["reason"])
    elif verdict == "contradicted" or (verdict == "inconclusive" and inconclusive == "fail"):
        pytest.fail(message, pytrace=False)
    elif verdict == "inconclusive" and inconclusive == "skip":
        pytest.skip(message)


def _end_compared(record: dict[str, Json], outcome: str, inconclusive: str) -> None:
    """Fail on a regression, treat an inconclusive comparison as the option says, and pass on the rest."""
    from .gate.text import explain_comparison

    message = explain_comparison(record)
    if outcome == "regressed" or (outcome == "inconclusive" and inconclusive == "fail"):
        pytest.fail(message, pytrace=False)
    elif outcome == "inconclusive" and inconclusive == "skip":
        pytest.skip(message)
