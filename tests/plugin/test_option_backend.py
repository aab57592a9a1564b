"""``--shift-backend`` and a pair file's ``backend``: likelihoods and responses through lm-eval's models."""

from __future__ import annotations

import json

import pytest
from completions_server import CompletionsServer

import tuneshift.checkpoints.loading
from tuneshift.errors import CheckpointError

# Before pytester notes what is loaded, because it forgets what its runs load: lm-eval's registry would keep classes of
# forgotten modules, pyarrow's extension types register once in a process, and a patch has to reach the module in use.
pytest.importorskip("lm_eval.models.huggingface", reason="backends are lm-eval's models (extra `api`)")
pytest.importorskip("lm_eval.models.openai_completions")

FOLLOWING = "test_implicit_following.py"
BEHAVIOUR = "ranks_responses or tuned_follows"
"""Findings on likelihoods and on responses, without the rule adapter."""
KEY = "sk-secret-0123456789"


@pytest.fixture
def serve():
    """Start servers of checkpoints."""
    started = []

    def start(folder, behave=None):
        started.append(CompletionsServer(folder, behave))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def served_pair(tmp_path, tiny_base, tiny_tuned):
    """``served_pair(base, tuned)`` writes a pair file whose checkpoints are asked at the servers; its options."""

    def write(base, tuned):
        lines = ["[pairs.served]"]
        for role, folder, server in (("base", tiny_base, base), ("tuned", tiny_tuned, tuned)):
            args = f"base_url={server.url},max_retries=1,timeout=5"
            lines.append(f'{role} = {{model = "{folder}", backend = "local-completions", backend_args = "{args}"}}')
        path = tmp_path / "pairs.toml"
        path.write_text("\n".join(lines))
        return "--pairs", path

    return write


@pytest.fixture
def no_weights(monkeypatch):
    monkeypatch.setattr(tuneshift.checkpoints.loading, "load", lambda *a, **k: pytest.fail("weights were loaded"))


@pytest.fixture
def measured(suites, record, tiny_prompts, warm_store):
    """``measured(*options, pair=..., store=...)``: a run of the behavioural findings, and its claims by finding."""

    def run(*options, pair=None, store=warm_store, wanted=BEHAVIOUR, new_process=False):
        chosen = (*options, *(() if pair is None else ("--shift-prompts", tiny_prompts)))
        result = suites("-k", wanted, *chosen, pair=pair, store=store, suite=FOLLOWING, new_process=new_process)
        return result, {claim["finding"]: claim for claim in record()["claims"]}

    return run


def require_same(claims, others):
    assert sorted(claims) == sorted(others)
    assert len(claims) == 4
    for finding, claim in claims.items():
        assert claim["n"] == others[finding]["n"] > 0
        assert claim["effect"] == pytest.approx(others[finding]["effect"])


def stored(store, measure):
    """Ids of the items that a store holds of a measure, over all checkpoints."""
    chunks = [json.loads(path.read_text()) for path in store.glob(f"{measure}/*/chunk-*.json")]
    return [item["id"] for chunk in chunks for item in chunk["items"]]


@pytest.mark.numerics
def test_lm_evals_hf_decides_as_our_own_passes_do_under_keys_of_its_own(measured, record, tmp_path):
    _, ours = measured()
    theirs = measured("--shift-backend", "hf:batch_size=4", store=tmp_path / "store")[1]
    require_same(ours, theirs)
    assert record()["pairs"][0]["base"]["backend"] == {"name": "hf", "args": {}}
    (key, *_) = (json.loads(path.read_text()) for path in (tmp_path / "store").glob("likelihood/*/key.json"))
    assert key["params"]["backend"] == {"name": "hf", "args": {}}
    (chunk, *_) = (json.loads(path.read_text()) for path in (tmp_path / "store").glob("likelihood/*/chunk-*.json"))
    assert chunk["provenance"]["backend"]["args"] == {"batch_size": "4"}
    assert "lm_eval" in chunk["provenance"]["backend"]
    result = measured("--shift-backend", "hf:batch_size=8", "--shift-plan", store=tmp_path / "store")[0]
    result.stdout.fnmatch_lines(["  tiny-base: likelihood through hf, tiny, 20/20 stored, *", "0 of *"])


@pytest.mark.numerics
def test_servers_decide_as_our_own_passes_do_and_no_weights_are_loaded(
    measured, record, serve, served_pair, tiny_base, tiny_tuned, tmp_path, no_weights, monkeypatch, pytester
):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    servers = serve(tiny_base), serve(tiny_tuned)
    pair = served_pair(*servers)
    theirs = measured(pair=pair, store=tmp_path / "store")[1]
    monkeypatch.undo()
    monkeypatch.chdir(pytester.path)  # undone, too: the checkout is no place for results
    require_same(measured()[1], theirs)
    assert {server.keys[0] for server in servers} == {f"Bearer {KEY}"}
    assert [{body["model"] for body in server.bodies} for server in servers] == [{str(tiny_base)}, {str(tiny_tuned)}]
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert KEY.encode() not in path.read_bytes()
    for server in servers:
        server.close()
    again = measured(pair=pair, store=tmp_path / "store")[1]  # the store needs no server
    assert again == theirs
    assert record()["pairs"][0]["tuned"]["backend"]["name"] == "local-completions"


@pytest.mark.numerics
def test_workers_ask_servers_too(measured, serve, served_pair, tiny_base, tiny_tuned, tmp_path):
    pair = served_pair(serve(tiny_base), serve(tiny_tuned))
    theirs = measured("-n", "2", pair=pair, store=tmp_path / "store", new_process=True)[1]
    require_same(measured()[1], theirs)


def test_a_server_that_dies_leaves_what_is_finished_and_the_next_run_goes_on_from_there(
    suites, record, serve, served_pair, tiny_base, tiny_tuned, tmp_path
):
    prompts = tmp_path / "forty.jsonl"
    rows = [{"id": f"q{i:02}", "prompt": f"Say {i}.", "instruction_spans": [[0, 3]]} for i in range(40)]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    store = tmp_path / "store"
    dying = serve(tiny_base, lambda answer, number: answer() if number <= 35 else (503, "shutting down"))
    tuned = serve(tiny_tuned)
    ask = ("-k", "tuned_follows", "--shift-prompts", prompts, "--shift-judge", "similarity", "--shift-base-format=none")

    def run(*servers):
        return suites(*ask, pair=served_pair(*servers), store=store, suite=FOLLOWING)

    result = run(dying, tuned)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["*'local-completions' at http://127.0.0.1:*503 Server Error*saying 'shutting down'*Finished chunks are kept*"]
    )
    assert len(stored(store, "generation")) == 32 + 40  # the base's first chunk, and all of the tuned
    asked = len(tuned.bodies)
    alive = serve(tiny_base)
    run(alive, tuned)
    assert len(alive.bodies) == 8
    assert len(tuned.bodies) == asked
    assert sorted(stored(store, "generation")) == sorted([row["id"] for row in rows] * 2)


def test_a_server_that_is_down_ends_the_run_before_anything_is_measured(
    suites, serve, served_pair, tiny_base, tiny_tuned, tiny_prompts, tmp_path, no_weights
):
    up, down = serve(tiny_base), serve(tiny_tuned)
    pair = served_pair(up, down)
    down.close()
    result = suites("--shift-prompts", tiny_prompts, pair=pair, store=tmp_path / "store", suite=FOLLOWING)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*the server at 127.0.0.1:* cannot be reached*Nothing was measured in this run*"])
    assert not up.bodies
    assert not stored(tmp_path / "store", "*")


def test_a_missing_package_ends_the_run_where_evidence_is_missing_and_not_the_plan(suites, tmp_path, no_weights):
    ask = ("-k", BEHAVIOUR, "--shift-backend", "vllm:max_model_len=96")
    result = suites(*ask, store=tmp_path / "store", suite=FOLLOWING)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*backend 'vllm' cannot be imported (ModuleNotFoundError: No module named 'vllm')*"])
    result = suites(*ask, "--shift-plan", store=tmp_path / "store", suite=FOLLOWING)
    assert result.ret == 0
    result.stdout.fnmatch_lines_random(
        ["  tiny-base: likelihood through vllm, tiny, 0/20 stored, *", "  tiny-base: generation through vllm, *"]
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("vlm", "*lm-eval has no model 'vlm' for a backend; did you mean 'vllm'? known: *local-completions*"),
        ("local-completions", "*needs the URL of its server, as local-completions:base_url=http://*"),
        ("local-chat-completions:base_url=http://127.0.0.1:1", "*server's own chat format*take local-completions*"),
        ("vllm:pretrained=other", "*'pretrained' is taken from the checkpoint*"),
        ("vllm:fast", "*'fast' is no argument; write key=value*"),
        (f"vllm:auth_token={KEY}", "*'auth_token' would put a key into records*OPENAI_API_KEY*"),
    ],
)
def test_a_backend_that_cannot_be_meant_ends_the_run_before_it_starts(suites, value, message):
    result = suites("--shift-backend", value, suite=FOLLOWING)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert KEY not in result.stderr.str()


def test_one_server_answers_for_one_checkpoint(suites, serve, tiny_base):
    value = f"local-completions:base_url={serve(tiny_base).url},model=m"
    result = suites("--shift-backend", value, suite=FOLLOWING)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*base and tuned are both asked for at http://127.0.0.1:* as 'm'*a pair file*"])


def test_rules_and_what_is_compared_with_them_run_on_the_weights_in_this_process(
    measured, serve, served_pair, tiny_base, tiny_tuned, tmp_path, warm_store
):
    ours = measured(wanted="rules_yield")[1]
    servers = serve(tiny_base), serve(tiny_tuned)
    theirs = measured(pair=served_pair(*servers), store=tmp_path / "store", wanted="rules_yield")[1]
    (mine,), (served) = ours.values(), theirs.values()
    assert [mine["effect"], mine["n"]] == [next(iter(served))["effect"], 20]
    assert not any(server.bodies for server in servers)


def test_rules_say_why_they_need_the_weights_where_these_do_not_load(
    suites, serve, served_pair, tiny_base, tiny_tuned, tiny_prompts, tmp_path, monkeypatch
):
    def refuse(ref, **options):
        raise CheckpointError(f"Checkpoint {ref.name!r} does not fit into the memory.")

    monkeypatch.setattr(tuneshift.checkpoints.loading, "load", refuse)
    pair = served_pair(serve(tiny_base), serve(tiny_tuned))
    result = suites("-k", "rules_yield", "--shift-prompts", tiny_prompts, pair=pair, store=tmp_path / "store",
                    suite=FOLLOWING)  # fmt: skip
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["*does not fit into the memory. Backend 'local-completions' gives texts and sums alone: the rule adapter*"]
    )


def test_attributions_rest_on_our_own_responses(suites, serve, served_pair, tiny_base, tiny_tuned, tiny_prompts):
    servers = serve(tiny_base), serve(tiny_tuned)
    chosen = ("--shift-prompts", tiny_prompts, "--shift-plan")
    plans = [suites(*chosen, pair=pair) for pair in (None, served_pair(*servers))]
    tasks = [[line for line in plan.outlines if ": attribution" in line or ": generation" in line] for plan in plans]
    assert len(tasks[0]) == 6
    assert tasks[0] == tasks[1]


def test_a_checkpoint_may_stay_with_our_own_passes(suites, tiny_base, tiny_tuned, tiny_prompts, tmp_path):
    pairs = tmp_path / "pairs.toml"
    pairs.write_text(f'[pairs.p]\nbase = "{tiny_base}"\ntuned = {{model = "{tiny_tuned}", backend = "none"}}\n')
    result = suites("-k", "tuned_follows", "--shift-backend", "hf", "--shift-plan", "--shift-prompts", tiny_prompts,
                    pair=("--pairs", pairs), store=tmp_path / "store", suite=FOLLOWING)  # fmt: skip
    result.stdout.fnmatch_lines_random(
        ["  tiny-base: generation through hf, tiny, *", "  tiny-tuned: generation, tiny, *"]
    )


def test_no_noise_floor_is_promised_behind_a_server(suites, serve, served_pair, tiny_base, tiny_tuned, no_weights):
    pair = served_pair(serve(tiny_base), serve(tiny_tuned))
    result = suites("-k", BEHAVIOUR, "--shift-noise-floor", pair=pair, suite=FOLLOWING)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no noise floor can be taken of base behind 'local-completions': a server computes*"])
