"""Other plugins see ordinary tests: with each of them a run makes the same claims and ends the same."""

from __future__ import annotations

import json

import pytest
from test_selections import claims_of

PLUGINS = {
    "pytest_jsonreport": ("--json-report", "--json-report-file=plugin.json"),
    "pytest_rerunfailures": ("--reruns=2",),
    "pytest_repeat": ("--count=3",),
    "pytest_randomly": ("--randomly-seed=7",),
    "pytest_timeout": ("--timeout=300",),
    "pytest_cov": ("--cov=tuneshift", "--cov-report=json:cov.json"),
}


WITH_WORKERS = ("pytest_rerunfailures", "pytest_repeat", "pytest_randomly")
"""Those that rerun, multiply or reorder tests."""
CASES = [
    *(pytest.param(plugin, (), id=plugin) for plugin in PLUGINS),
    *(pytest.param(plugin, ("-n", "2"), id=f"{plugin} -n 2", marks=pytest.mark.nightly) for plugin in WITH_WORKERS),
]


@pytest.mark.parametrize(("plugin", "workers"), CASES)
def test_the_claims_are_the_same_with(suites, pytester, monkeypatch, plugin, workers):
    pytest.importorskip(plugin, reason=f"{plugin} is not installed")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    code = suites("-p", "no:randomly", "--shift-out", "plain").ret
    plain = claims_of(pytester.path / "plain" / "run.json")
    in_order = () if plugin == "pytest_randomly" else ("-p", "no:randomly")
    # Coverage begun in a process that has run thousands of tests was seen to hang while it set its trace function.
    result = suites(
        *PLUGINS[plugin], *in_order, *workers, "-o", "addopts=", "--shift-out", "other",
        new_process=plugin == "pytest_cov",
    )  # fmt: skip
    assert claims_of(pytester.path / "other" / "run.json") == plain
    assert result.ret == code
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    used(plugin, result, pytester.path)


def used(plugin, result, folder) -> None:
    """That the plugin did its work in this run."""
    text = result.stdout.str()
    if plugin == "pytest_jsonreport":
        tests = json.loads((folder / "plugin.json").read_text())["tests"]
        assert len(tests) == 4
        assert {test["outcome"] for test in tests} <= {"failed", "skipped", "passed"}
        assert all(test["call"]["outcome"] for test in tests)
    elif plugin == "pytest_rerunfailures":
        assert " rerun" in text
    elif plugin == "pytest_repeat":
        counts = result.parseoutcomes()
        assert sum(counts.get(name, 0) for name in ("passed", "failed", "skipped")) == 12
    elif plugin == "pytest_randomly":
        assert "Using --randomly-seed=7" in text
    elif plugin == "pytest_timeout":
        assert "timeout: 300.0s" in text
    else:
        assert (folder / "cov.json").is_file()
