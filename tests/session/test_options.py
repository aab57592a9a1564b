"""The command line read: what suites are, findings by pattern, margins, the command that is written down."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from tuneshift.errors import UsageError
from tuneshift.resources import data_folder
from tuneshift.session.options import (
    add_options,
    asks_for_suites,
    command_line,
    default_store,
    findings_named,
    foreign_configuration,
    margins_of,
    read_options,
    templates_folder,
    valued_options,
)


@pytest.fixture
def parsed(tmp_path: Path):
    """``parsed(*words)`` is a config with our options as pytest reads them; the user stands in ``tmp_path``."""

    def parse(*words: object, inipath: Path | None = None, args: tuple[str, ...] = ()) -> SimpleNamespace:
        parser = pytest.Parser(_ispytest=True)
        add_options(parser)
        option = parser.parse_known_args([str(word) for word in words])
        invocation = SimpleNamespace(dir=tmp_path, args=words)
        return SimpleNamespace(option=option, invocation_params=invocation, inipath=inipath, args=args)

    return parse


def test_a_run_without_a_pair_option_or_the_suites_is_none_of_ours(parsed) -> None:
    assert not asks_for_suites(parsed(args=("tests", "tests/test_suites.py::test_x")))
    # Options that say how, not what: a user's addopts may hold them for every run.
    assert not asks_for_suites(parsed("--shift-alpha=0.01", "--shift-store=x", args=("tests",)))


@pytest.mark.parametrize("word", ["--base=b", "--tuned=t", "--pairs=p.toml", "--pair=p", "--finding=f", "--shift-plan"])
def test_each_option_that_names_what_to_test_asks_for_suites(parsed, word: str) -> None:
    assert asks_for_suites(parsed(word, args=("tests",)))


def test_the_suites_are_known_by_folder_file_and_module_and_a_neighbour_is_not(parsed, tmp_path: Path) -> None:
    suites = data_folder("suites")
    for arg in (str(suites), f"{suites}/test_verb_relations.py::test_x[a]", "tuneshift.suites.test_verb_relations"):
        assert asks_for_suites(parsed(args=("tests", arg)))
    (tmp_path / "link").symlink_to(suites)
    assert asks_for_suites(parsed(args=("link",)))
    assert not asks_for_suites(parsed(args=(f"{suites}-of-others", str(suites.parent))))


KNOWN = ("wu2023.density_rises", "wu2023.density_marks_followed", "hewitt2024.tuned_follows")


@pytest.mark.parametrize(
    ("patterns", "named"),
    [
        ((), set()),
        (("wu2023.density_rises",), {KNOWN[0]}),
        (("wu2023.*",), set(KNOWN[:2])),
        (("*follow*", "wu2023.density_r[io]ses"), set(KNOWN)),
    ],
)
def test_findings_are_named_by_id_and_by_pattern(patterns, named) -> None:
    assert findings_named(patterns, KNOWN) == named


@pytest.mark.parametrize("pattern", ["wu2023.density_rise", "WU2023.DENSITY_RISES", ""])
def test_a_pattern_that_names_none_is_refused_beside_one_that_does(pattern: str) -> None:
    with pytest.raises(UsageError, match=f"--finding '{pattern}' names no finding of the tests that run; "):
        findings_named(("wu2023.*", pattern), KNOWN)


def test_margins_by_finding_and_the_last_of_one_counts() -> None:
    assert margins_of(["a.b=0.1", "c.d=2", "a.b=1e-3"], "--shift-margin") == {"a.b": 0.001, "c.d": 2.0}


@pytest.mark.parametrize("text", ["a.b", "a.b=", "a.b=x", "a.b=0", "a.b=-1", "a.b=nan", "a.b=inf", "0.1", "a=b=1"])
def test_what_is_no_margin_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(UsageError, match=r"--margin '.*': write FINDING=VALUE with a number above 0, as hewitt2024"):
        margins_of([text], "--margin")


def test_the_written_command_says_the_same_and_joins_our_options_to_their_values(parsed) -> None:
    words = ["--base", "my base", "--shift-plan", "--tuned=t", "-k", "a or b", "--shift-judge", "ifeval", "suites"]
    line = command_line(words)
    assert shlex.split(line) == [
        "pytest", "--base=my base", "--shift-plan", "--tuned=t", "-k", "a or b", "--shift-judge=ifeval", "suites",
    ]  # fmt: skip
    assert vars(parsed(*shlex.split(line)[1:]).option) == vars(parsed(*words).option)
    assert command_line(["--tuned"]) == "pytest --tuned"  # what pytest refused for want of a value


def test_options_with_a_value_are_those_that_take_one() -> None:
    assert {"--base", "--tuned", "--shift-margin"} <= valued_options()
    assert not {"--shift-plan", "--shift-overwrite", "--shift-noise-floor"} & valued_options()


def test_a_configuration_beside_a_checkpoint_is_told_and_ones_own_is_not(parsed, tmp_path: Path) -> None:
    here, other = tmp_path / "pytest.ini", tmp_path / "other"
    (other / "tuned").mkdir(parents=True)
    apart = parsed("--tuned", "other/tuned", inipath=other / "pytest.ini")
    (line,) = foreign_configuration(apart)
    assert line.endswith("--tuned and other/tuned are two words; write --tuned=other/tuned")
    for config in (
        parsed("--tuned=other/tuned", inipath=other / "pytest.ini"),
        parsed("--tuned", "other/tuned", inipath=here),
        parsed("--tuned", "other/gone", inipath=other / "pytest.ini"),
        parsed("--tuned", "other/tuned"),
    ):
        assert foreign_configuration(config) == []


def test_the_store_is_the_options_then_the_environments_then_the_users(parsed, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TUNESHIFT_STORE", "~/named")
    assert read_options(parsed("--shift-store=~/given")).store == tmp_path / "given"
    assert read_options(parsed()).store == default_store() == tmp_path / "named"
    monkeypatch.delenv("TUNESHIFT_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_store().is_relative_to(tmp_path / "cache")
    assert default_store().name == "evidence"


def test_what_was_asked_for_arrives_whole(parsed, tmp_path: Path) -> None:
    options = read_options(
        parsed(
            "--base=b", "--tuned=t", "--tuned=u", "--shift-prompts=mt", "--shift-max-new-tokens=7",
            "--shift-dtype=float64", "--shift-judge=ifeval", "--shift-judge=verifier", "--shift-alpha=0.01",
            "--shift-noise-floor", "--shift-save=good", "--shift-margin=a.b=0.5", f"--shift-storage={tmp_path}/kept",
        )
    )  # fmt: skip
    assert (options.base, options.tuned, options.prompts) == ("b", ("t", "u"), ("mt",))
    assert (options.settings.max_new_tokens, options.settings.dtype) == (7, "float64")
    assert options.settings.judges == ("ifeval", "verifier")
    assert (options.alpha, options.noise_floor, options.update_expectations) == (0.01, True, False)
    assert (options.gating.save, options.gating.compare, options.gating.margins) == ("good", None, {"a.b": 0.5})
    assert options.gating.storage == tmp_path / "kept"
    assert options.here == tmp_path


@pytest.mark.parametrize("alpha", ["0", "1", "-0.1", "nan", "inf"])
def test_an_error_rate_lies_between_0_and_1(parsed, alpha: str) -> None:
    with pytest.raises(UsageError, match=r"--shift-alpha is .*between 0 and 1"):
        read_options(parsed(f"--shift-alpha={alpha}"))


def test_a_templates_folder_that_is_none_is_refused_when_options_are_read(parsed, tmp_path: Path) -> None:
    assert templates_folder(parsed()) is None
    with pytest.raises(UsageError, match="gone"):
        read_options(parsed(f"--shift-templates={tmp_path}/gone"))
