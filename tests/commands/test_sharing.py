"""``tuneshift evidence export`` and ``import``: what they write, refuse, and leave as it was."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
from hostile_values import HOSTILE, byte_mutant, effort, json_mutant

import tuneshift
from tuneshift.chat.endpoint import ChatEndpoint
from tuneshift.claims.catalogue import findings
from tuneshift.cli import main
from tuneshift.commands.common import OK, USAGE
from tuneshift.errors import EvidenceFileError, PairError, TuneshiftError, UsageError
from tuneshift.pairs import load_pairs, resolve_pairs
from tuneshift.resources import fixture
from tuneshift.session.checks import check_run
from tuneshift.session.options import options_of
from tuneshift.session.run import RunSession
from tuneshift.store.evidence_file import MANIFEST, packed, unpacked
from tuneshift.store.recorded_pair import recorded_pair
from tuneshift.store.store import Store

FOLLOWS = "hewitt2024.tuned_follows"
NAME = "tiny-base-tiny-tuned"
SMALL = {"max_new_tokens": 6, "base_format": "none"}


@pytest.fixture(scope="module")
def store(tiny_base, tiny_tuned, tiny_prompts, tmp_path_factory) -> Path:
    """A store with what one finding reads of the tiny pair: a generation of each."""
    root = tmp_path_factory.mktemp("one-finding")
    tuneshift.run(tiny_base, tiny_tuned, findings=FOLLOWS, prompts=tiny_prompts, store=root, **SMALL)
    return root


@pytest.fixture(scope="module")
def asked(tiny_base, tiny_tuned, tiny_prompts, store) -> list[str]:
    """The export of that, without ``--out``."""
    return [
        "evidence", "export", f"--base={tiny_base}", f"--tuned={tiny_tuned}", f"--shift-prompts={tiny_prompts}",
        "--shift-max-new-tokens=6", "--shift-base-format=none", f"--store={store}", f"--finding={FOLLOWS}",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def file(asked, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("shared") / "tiny.evidence.zip"
    assert main([*asked, f"--out={path}"]) == OK
    return path


def rewritten(file: Path, to: Path, **changed: object) -> Path:
    """The file with other fields in its manifest, sealed anew."""
    members = unpacked(file)[1]
    members[MANIFEST] = json.dumps({**json.loads(members[MANIFEST]), **changed}).encode()
    to.write_bytes(packed(members))
    return to


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(root)): p.read_bytes()
        for p in sorted(root.rglob("*"))
        if p.is_file() and ".lock" not in str(p)
    }


def test_export_says_what_it_wrote_and_replaces_nothing_unasked(asked, tmp_path, capsys):
    out = tmp_path / "x.evidence.zip"
    assert main([*asked, f"--out={out}"]) == OK
    said = capsys.readouterr().out
    assert said.startswith(f"{out}: pair {NAME}, 2 sets, ")
    assert " kB (" in said
    assert f"pytest suites --shift-evidence={out}" in said
    first = out.read_bytes()
    assert main([*asked, f"--out={out}"]) == USAGE
    assert "is there already; name another file with --out, or replace it with --force" in capsys.readouterr().err
    assert main([*asked, f"--out={out}", "--force"]) == OK
    assert out.read_bytes() == first  # deterministic


def test_a_store_that_lacks_evidence_is_named_and_partial_leaves_it_out(asked, tmp_path, capsys):
    wider = [*asked[:-1], "--finding=hewitt2024.*follow*", f"--out={tmp_path / 'x.evidence.zip'}"]
    assert main(wider) == USAGE
    caught = capsys.readouterr()
    assert "not in the store: generation.rules of tiny-base on tiny, which hewitt2024" in caught.out
    assert "has not all that the claims on pair" in caught.err
    assert not (tmp_path / "x.evidence.zip").exists()
    assert main([*wider, "--partial"]) == OK
    assert " 2 sets, " in capsys.readouterr().out
    assert main([*wider, "--partial", "--force", "--measure=relations"]) == USAGE
    assert "holds no evidence of pair" in capsys.readouterr().err
    assert main([*wider, "--partial", "--force", "--measure=relation"]) == USAGE
    assert "did you mean 'relations'" in capsys.readouterr().err


def test_an_export_that_cannot_be_written_leaves_the_old_file(asked, file, tmp_path, monkeypatch, capsys):
    out = Path(shutil.copy(file, tmp_path / "x.evidence.zip"))

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tuneshift.files.publish", full)
    assert main([*asked, f"--out={out}", "--force"]) != OK
    assert "cannot be written: No space left" in capsys.readouterr().err
    assert out.read_bytes() == file.read_bytes()


def test_a_record_of_other_evidence_and_of_a_script_is_refused(asked, file, tmp_path, capsys, store, tiny_prompts):
    made = tuneshift.run(pairs=file, findings=FOLLOWS, store=store)
    record = json.loads(made.save(tmp_path / "run.json").read_text())
    assert main(["evidence", "export", str(tmp_path / "run.json"), f"--out={tmp_path / 'y.evidence.zip'}"]) == USAGE
    assert "is of a script" in capsys.readouterr().err
    command = ["pytest", "suites", *asked[2:6], "--shift-base-format=none", "-q"]
    for digest, code in ((record["claims"][0]["evidence"]["tuned generation"], OK), ("0" * 64, USAGE)):
        record["claims"][0]["evidence"]["tuned generation"] = digest
        record["run"]["command"] = " ".join(command)
        record.pop("sha256", None)
        (tmp_path / "run.json").write_text(json.dumps(record))
        out = tmp_path / f"{code}.evidence.zip"
        assert main(["evidence", "export", str(tmp_path / "run.json"), f"--out={out}"]) == code
    assert "was made from other evidence of tuned generation (000000000000)" in capsys.readouterr().err


def test_an_evidence_file_is_not_exported_again_and_one_pair_is_one_file(file, tmp_path, capsys):
    (tmp_path / "pairs.toml").write_text(f'[pairs.a]\nevidence = "{file}"\n[pairs.b]\nevidence = "{file}"\n')
    assert main(["evidence", "export", f"--pairs={tmp_path / 'pairs.toml'}", f"--store={tmp_path}"]) == USAGE
    assert "is of one pair and these are a, b; choose with --pair" in capsys.readouterr().err
    assert (
        main(["evidence", "export", f"--pairs={tmp_path / 'pairs.toml'}", "--pair=a", f"--store={tmp_path}"]) == USAGE
    )
    assert f"is an evidence file itself; share {file}" in capsys.readouterr().err


def test_a_pair_file_names_an_evidence_file_and_expectations_beside_it(file, tmp_path):
    shutil.copy(file, tmp_path / "tiny.evidence.zip")
    (tmp_path / "mine.toml").write_text("")
    text = '[pairs.a]\nevidence = "tiny.evidence.zip"\nexpectations = "mine.toml"\n'
    (tmp_path / "pairs.toml").write_text(text)
    pair = load_pairs(tmp_path / "pairs.toml")["a"]
    assert (pair.name, pair.expectations, pair.max_new_tokens) == ("a", tmp_path / "mine.toml", 6)
    assert {role: ref.name for role, ref in pair.roles.items()} == {"base": "tiny-base", "tuned": "tiny-tuned"}
    (tmp_path / "pairs.toml").write_text(text + 'base = "gpt2"\n')
    with pytest.raises(PairError, match="unknown key 'base'"):
        load_pairs(tmp_path / "pairs.toml")


def test_import_copies_what_is_missing_and_keeps_what_is_there(file, store, tmp_path, capsys):
    root = tmp_path / "fresh"
    assert main(["evidence", "import", str(file), f"--store={root}"]) == OK
    assert f"pair {NAME}: 2 sets, 2 of them new in {root}. Replay it with `pytest suites --pair={NAME}`" in (
        capsys.readouterr().out
    )
    for stored in Store(root).list():
        mine, theirs = Store(root).read(stored.key), Store(store).read(stored.key)
        assert [(i.id, dict(i.values), i.left_out) for i in mine.items] == [
            (i.id, dict(i.values), i.left_out) for i in theirs.items
        ]
        assert mine.provenance["versions"] == theirs.provenance["versions"]  # whoever measured it
    before = contents(root)
    assert main(["evidence", "import", str(file), f"--store={root}"]) == OK
    assert "0 of them new" in capsys.readouterr().out
    assert contents(root) == before
    other = rewritten(file, tmp_path / "other.evidence.zip", notes=["other"])
    assert main(["evidence", "import", str(other), f"--store={root}"]) == USAGE
    assert "is other evidence that was imported for pair" in capsys.readouterr().err
    assert contents(root) == before
    assert main(["evidence", "import", str(other), f"--store={root}", "--force"]) == OK
    assert main(["evidence", "verify", f"--store={root}"]) == OK
    assert main(["evidence", "ls", f"--store={root}"]) == OK
    assert f"pair {NAME}: imported evidence file" in capsys.readouterr().out


def test_a_name_that_is_declared_here_stays_the_declared_pair(file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text(f'[tool.tuneshift.pairs.{NAME}]\nbase = "gpt2"\ntuned = "distilgpt2"\n')
    assert main(["evidence", "import", str(file), f"--store={tmp_path / 'fresh'}"]) == OK
    assert f"A pair {NAME} is declared here" in capsys.readouterr().out
    (pair,) = resolve_pairs(
        base=None, tuned=(), pairs_file=None, names=[NAME], prompts=(), here=tmp_path, store=tmp_path / "fresh"
    )
    assert pair.recorded is None


def test_an_unknown_pair_lists_the_imported_ones(tmp_path, file):
    main(["evidence", "import", str(file), f"--store={tmp_path / 'fresh'}"])
    with pytest.raises(PairError, match=f"did you mean '{NAME}'"):
        resolve_pairs(
            base=None, tuned=(), pairs_file=None, names=["tiny-base-tuned"], prompts=(), here=tmp_path,
            store=tmp_path / "fresh",
        )  # fmt: skip


def test_a_shipped_file_is_found_by_name_and_left_alone_where_none_is_named(file, tmp_path, monkeypatch):
    (tmp_path / "evidence").mkdir()
    shutil.copy(file, tmp_path / "evidence" / f"{NAME}.evidence.zip")
    monkeypatch.setattr(
        "tuneshift.pairs.fixture", lambda name: tmp_path / name if name == "evidence" else fixture(name)
    )
    asked = {"base": None, "tuned": (), "pairs_file": None, "prompts": (), "here": tmp_path}
    (pair,) = resolve_pairs(**asked, names=[NAME])
    assert pair.recorded is not None
    assert [pair.name for pair in resolve_pairs(**asked, names=())] == ["micro"]


def test_what_a_pair_declares_is_in_the_file_and_is_not_rewritten(
    tiny_base, tiny_tuned, tiny_prompts, store, tmp_path, capsys
):
    (tmp_path / "expected.toml").write_text(
        f'[[expect]]\nfinding = "{FOLLOWS}"\nverdict = "inconclusive"\nreason = "Random weights."\n'
    )
    (tmp_path / "pairs.toml").write_text(
        f'[pairs.mine]\nbase = "{tiny_base}"\ntuned = "{tiny_tuned}"\nprompts = ["{tiny_prompts}"]\n'
        'expectations = "expected.toml"\nmax_new_tokens = 6\n'
    )
    out = tmp_path / "mine.evidence.zip"
    given = [f"--pairs={tmp_path / 'pairs.toml'}", "--shift-base-format=none", f"--finding={FOLLOWS}"]
    assert main(["evidence", "export", *given, f"--store={store}", f"--out={out}"]) == OK
    (claim,) = tuneshift.run(pairs=out, findings=FOLLOWS, store=tmp_path / "none").claims
    assert claim["expected"] == {"verdict": "inconclusive", "reason": "Random weights."}
    assert claim["pair"] == "mine"
    options = options_of([f"--shift-evidence={out}", "--shift-update-expectations"], tmp_path)
    with pytest.raises(UsageError, match=r"are declared in the evidence file .* which is not rewritten"):
        check_run(RunSession(options=options, known_findings=findings))


def test_responses_of_an_imported_pair_are_written_for_alpaca_eval(file, tmp_path, capsys):
    main(["evidence", "import", str(file), f"--store={tmp_path / 'fresh'}"])
    out = tmp_path / "outputs.json"
    asked = ["outputs", f"--pair={NAME}", f"--store={tmp_path / 'fresh'}", f"--out={out}"]
    assert main(asked) == OK
    rows = json.loads(out.read_text())
    assert (len(rows), rows[0]["generator"], rows[0]["dataset"]) == (20, "tiny-tuned", "tiny")
    assert main([*asked, "--with-rules"]) == USAGE
    assert "is recorded evidence, without responses" in capsys.readouterr().err


@pytest.mark.parametrize("seed", range(effort(20)))
def test_a_damaged_file_is_refused_and_changes_nothing(seed, file, tmp_path, capsys):
    root, mutant = tmp_path / "store", tmp_path / "m.evidence.zip"
    mutant.write_bytes(byte_mutant(file.read_bytes(), random.Random(seed)))
    for command in (["evidence", "import", str(mutant), f"--store={root}"],):
        assert main(command) == USAGE
    assert capsys.readouterr().err.startswith("tuneshift: ")
    assert not root.exists()


@pytest.mark.parametrize("seed", range(effort(80)))
def test_a_manifest_that_somebody_changed_is_refused_or_read(seed, file, tmp_path):
    """Under a sound seal: no error but ours, no path out of the folder."""
    members, rng = unpacked(file)[1], random.Random(seed)
    members[MANIFEST] = json.dumps(json_mutant(json.loads(members[MANIFEST]), rng)).encode("utf-8", "surrogatepass")
    path = tmp_path / "m.evidence.zip"
    path.write_bytes(packed(members))
    refused = ""
    try:
        (pair,) = resolve_pairs(
            base=None, tuned=(), pairs_file=None, names=(), prompts=(), here=tmp_path, evidence=[path]
        )
        assert pair.recorded is not None
        for source in pair.prompts:
            assert Path(source.path).is_relative_to(pair.recorded.folder)
        tuneshift.run(pairs=path, findings=FOLLOWS, store=tmp_path / "none")
    except TuneshiftError as error:
        refused = str(error)
    assert "\x1b" not in refused


@pytest.mark.parametrize("field", ["name", "settings", "pair", "prompts", "checkpoints", "needs", "files", "notes"])
def test_every_field_is_checked_for_its_type(field, file, tmp_path):
    path = rewritten(file, tmp_path / "x.evidence.zip", **{field: 3})
    with pytest.raises(EvidenceFileError, match=rf"'{field}' in pair.json is missing or of the wrong type"):
        recorded_pair(path)
    for value in HOSTILE:
        try:
            recorded_pair(rewritten(file, path, **{field: value}))
        except EvidenceFileError:
            continue
        assert isinstance(value, (str, list, dict))


def test_nothing_in_a_file_writes_control_characters_or_reads_files_of_this_machine(file, tmp_path):
    manifest = json.loads(unpacked(file)[1][MANIFEST])
    blow = "x" * 300 + "\x1b]0;gone\x07"
    claim = {"finding": FOLLOWS, "prompts": "tiny", "group": "all", "reason": blow}
    base = {**manifest["checkpoints"]["base"], "name": blow}
    for changed in (
        {"notes": [blow]}, {"not_applicable": [claim]}, {"name": "a\nb"},
        {"checkpoints": {**manifest["checkpoints"], "base": base}},
        {"pair": {**manifest["pair"], "word_vectors": str(file)}},
        {"settings": {**manifest["settings"], "rules": "/etc/passwd"}},
    ):  # fmt: skip
        with pytest.raises(EvidenceFileError) as refused:
            tuneshift.run(pairs=rewritten(file, tmp_path / "x.evidence.zip", **changed), store=tmp_path)
        assert "\x1b" not in str(refused.value)
        assert "\n" not in str(refused.value)
    # A reason without them is the claim's.
    told = rewritten(file, tmp_path / "y.evidence.zip", not_applicable=[{**claim, "reason": "It is red."}])
    (made,) = tuneshift.run(pairs=told, findings=FOLLOWS, store=tmp_path).claims
    assert (made["verdict"], made["reason"]) == ("not_applicable", "It is red.")


def test_evidence_of_another_checkpoint_and_a_damaged_set_are_refused(file, tmp_path):
    manifest = json.loads(unpacked(file)[1][MANIFEST])
    swapped = {**manifest["checkpoints"], "base": manifest["checkpoints"]["tuned"]}
    with pytest.raises(EvidenceFileError, match="generation evidence of base is of another checkpoint"):
        recorded_pair(rewritten(file, tmp_path / "x.evidence.zip", checkpoints=swapped))
    members = unpacked(file)[1]
    arrays = next(name for name in members if name.endswith(".safetensors"))
    members[arrays] = members[arrays][:-1] + b"\x7f"
    (tmp_path / "y.evidence.zip").write_bytes(packed(members))
    with pytest.raises(EvidenceFileError, match=r"safetensors is not what pair\.json says"):
        recorded_pair(tmp_path / "y.evidence.zip")


def test_other_prompts_and_findings_are_not_in_it_and_say_so(file, tmp_path, tiny_prompts):
    other = tmp_path / "other.jsonl"
    other.write_text("".join(tiny_prompts.read_text().splitlines(keepends=True)[:5]))
    for named, need in (
        ({"prompts": other}, "generation on other"),
        ({"findings": "*rotates*"}, "concepts on weights"),
    ):
        (claim,) = tuneshift.run(pairs=file, **{"findings": FOLLOWS, **named}, store=tmp_path).claims
        assert claim["verdict"] == "not_applicable"
        assert claim["reason"].endswith(f"is recorded evidence, which holds no {need}")


def test_a_setting_that_was_another_is_refused_and_the_same_is_not(file, tmp_path):
    for setting in ({"response": "tuned"}, {"max_new_tokens": 7}, {"vocabulary": "500"}):
        with pytest.raises(TuneshiftError, match="and the evidence of pair tiny-base-tiny-tuned was measured with"):
            tuneshift.run(pairs=file, findings=FOLLOWS, store=tmp_path, **setting)
    usual = tuneshift.run(pairs=file, findings=FOLLOWS, store=tmp_path)
    same = tuneshift.run(pairs=file, findings=FOLLOWS, store=tmp_path, **SMALL)
    assert same.claims == usual.claims
    assert usual.run["settings"]["base_format"] == "none"
    judged = tuneshift.run(pairs=file, findings=FOLLOWS, store=tmp_path, judge="verifier")
    assert judged.claims == usual.claims


def test_a_judge_that_a_file_names_is_asked_only_where_the_reader_names_it(file, tmp_path, monkeypatch):
    """Else a file of a stranger says where responses go, and the reader's key with them."""
    asked: list[str] = []

    def ask(self: ChatEndpoint, *_: object, **__: object) -> str:
        asked.append(self.url)
        return "A"

    monkeypatch.setattr(ChatEndpoint, "ask", ask)
    manifest = json.loads(unpacked(file)[1][MANIFEST])
    for judge in ("openai:m@http://127.0.0.1:9/v1", "hf:somebody/model"):
        settings = {**manifest["settings"], "judges": ["verifier", judge]}
        path = rewritten(file, tmp_path / "x.evidence.zip", settings=settings)
        with pytest.raises(TuneshiftError, match=f"was judged by {judge}, which a file cannot have asked") as refused:
            tuneshift.run(pairs=path, findings=FOLLOWS, store=tmp_path)
        assert f"--shift-judge=verifier --shift-judge={judge}" in str(refused.value)
        assert not asked
        by_hand = tuneshift.run(pairs=path, findings=FOLLOWS, store=tmp_path, judge="verifier")
        assert by_hand.claims
    settings = {**manifest["settings"], "judges": ["openai:m@http://127.0.0.1:9/v1"]}
    path = rewritten(file, tmp_path / "x.evidence.zip", settings=settings)
    tuneshift.run(pairs=path, findings=FOLLOWS, store=tmp_path, judge=settings["judges"][0])
    assert set(asked) == {"http://127.0.0.1:9/v1"}
