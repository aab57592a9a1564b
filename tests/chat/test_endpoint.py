"""The endpoint against a local stub server that answers, fails, limits, stalls, talks rubbish or is down."""

from __future__ import annotations

import json
import sys
import traceback
from collections import Counter

import pytest
from chat_stub import Stub, completion, failure

from tuneshift.chat.endpoint import ChatEndpoint, ChatRequest, parse_endpoint
from tuneshift.errors import EndpointError, UsageError

KEY = "sk-secret-0123456789"


def echo(body, number):
    return completion(f"you said {body['messages'][-1]['content']}")


@pytest.fixture
def serve(monkeypatch):
    """Start stubs; the client's backoff is shortened, nothing else of it is changed."""
    openai = pytest.importorskip("openai")
    monkeypatch.setattr(openai._base_client, "INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    stubs = []

    def start(behave=echo):
        stubs.append(Stub(behave))
        return stubs[-1]

    yield start
    for stub in stubs:
        stub.close()


@pytest.fixture
def endpoint(tmp_path):
    def make(stub, **given):
        return ChatEndpoint(**{"model": "m", "url": stub.url, "cache": tmp_path / "answers", "retries": 2, **given})

    return make


def user(text):
    return [{"role": "user", "content": text}]


def ask(endpoint, text="hi", seed=0):
    return endpoint.ask(user(text), seed=seed, max_tokens=9)


def requests(*texts):
    return [ChatRequest(messages=user(t), seed=0, max_tokens=9) for t in texts]


def test_specs_name_model_and_url():
    assert parse_endpoint("openai:gpt-4o@https://api.openai.com/v1/") == ("gpt-4o", "https://api.openai.com/v1")
    # model names may hold slashes, colons and even an @
    assert parse_endpoint("openai:org/m:7b@q4@http://localhost:80/v1") == ("org/m:7b@q4", "http://localhost:80/v1")


@pytest.mark.parametrize("spec", ["openai:gpt-4o", "openai:@http://x/v1", "openai:m@ftp://x", "openai:m@http:///v1"])
def test_other_specs_are_refused_with_the_form(spec):
    with pytest.raises(UsageError, match="write openai:MODEL@URL"):
        parse_endpoint(spec)


def test_a_password_in_the_url_is_refused_and_not_repeated():
    with pytest.raises(UsageError, match="OPENAI_API_KEY") as caught:
        parse_endpoint("openai:m@http://me:hunter2@host/v1")
    assert "hunter2" not in str(caught.value)


def test_an_answer_is_asked_once(serve, endpoint):
    stub = serve()
    first = endpoint(stub)
    assert ask(first) == ask(first) == "you said hi"
    # another process has the same cache
    assert ask(endpoint(stub)) == "you said hi"
    assert len(stub.bodies) == 1
    assert stub.bodies[0] == {
        "model": "m", "messages": user("hi"), "max_tokens": 9, "temperature": 0.0, "seed": 0,
    }  # fmt: skip


def test_whatever_changes_the_answer_is_asked_anew(serve, endpoint):
    stub = serve()
    ask(endpoint(stub))
    ask(endpoint(stub), seed=1)
    ask(endpoint(stub), text="ho")
    ask(endpoint(stub, model="n"))
    ask(endpoint(stub, temperature=0.7))
    endpoint(stub).ask(user("hi"), seed=0, max_tokens=10)
    assert len(stub.bodies) == 6
    other = serve()
    ask(endpoint(other))
    assert len(other.bodies) == 1


def test_a_server_that_fails_twice_is_asked_three_times(serve, endpoint):
    stub = serve(lambda body, n: failure(500, "overloaded") if n < 3 else echo(body, n))
    assert ask(endpoint(stub)) == "you said hi"
    assert len(stub.bodies) == 3


def test_a_server_that_keeps_failing_is_named_with_what_it_said(serve, endpoint):
    stub = serve(lambda body, n: failure(500, "the moon is full"))
    with pytest.raises(EndpointError, match=r"Model 'm' at 127\.0\.0\.1:\d+/v1 failed in 3 tries: HTTP 500.*moon"):
        ask(endpoint(stub))
    assert len(stub.bodies) == 3


def test_rate_limits_are_waited_for(serve, endpoint):
    stub = serve(lambda body, n: failure(429, "slow", **{"Retry-After": "0.05"}) if n < 3 else echo(body, n))
    assert ask(endpoint(stub)) == "you said hi"


def test_a_rate_limit_without_end_is_an_error(serve, endpoint):
    stub = serve(lambda body, n: failure(429, "quota used up", **{"Retry-After": "0.01"}))
    with pytest.raises(EndpointError, match=r"limits the rate of requests, still after 3 tries: .*quota used up"):
        ask(endpoint(stub))


def test_a_server_that_stalls_is_given_up(serve, endpoint):
    stub = serve(lambda body, n: None)
    with pytest.raises(EndpointError, match=r"gave no answer within 0\.1 s in 2 tries"):
        ask(endpoint(stub, timeout=0.1, retries=1))
    assert len(stub.bodies) == 2


@pytest.mark.parametrize(
    "rubbish", [(200, {}, "<html>welcome</html>"), (200, {}, {"hello": 1}), (200, {}, {"choices": []}),
                (200, {"Content-Type": "application/json"}, "{broken")]
)  # fmt: skip
def test_rubbish_is_no_answer_and_is_not_kept(serve, endpoint, rubbish, tmp_path):
    stub = serve(lambda body, n: rubbish)
    with pytest.raises(EndpointError, match=r"answered something else than .*; does the URL end in the API's version"):
        ask(endpoint(stub))
    assert not list(tmp_path.rglob("*.json"))


def test_a_server_that_is_down(serve, endpoint):
    stub = serve()
    stub.close()
    with pytest.raises(EndpointError, match=r"cannot be reached \(.+\) in 3 tries; is the server up"):
        ask(endpoint(stub))


def test_an_empty_answer_is_an_answer(serve, endpoint):
    stub = serve(lambda body, n: completion(None))
    assert ask(endpoint(stub)) == ask(endpoint(stub)) == ""
    assert len(stub.bodies) == 1


def test_many_are_answered_in_order_and_counted(serve, endpoint):
    stub, told = serve(), []
    answers = endpoint(stub).ask_all(requests(*"abcdefgh"), lambda done, total: told.append((done, total)))
    assert answers == [f"you said {c}" for c in "abcdefgh"]
    assert told == [(i, 8) for i in range(1, 9)]


def test_finished_work_is_kept_and_only_the_rest_asked_again(serve, endpoint):
    broken = True

    def behave(body, number):
        return failure(500, "broken") if broken and body["messages"][0]["content"] == "f" else echo(body, number)

    stub = serve(behave)
    # one at a time: a to e come before the failure, and at most g is under way when it shows
    with pytest.raises(EndpointError, match=r"HTTP 500, .*broken.* [56] of 8 answers are kept in .*answers"):
        endpoint(stub, workers=1, retries=0).ask_all(requests(*"abcdefgh"))
    asked = {b["messages"][0]["content"] for b in stub.bodies}
    assert set("abcdef") <= asked <= set("abcdefg")
    broken = False
    assert endpoint(stub).ask_all(requests(*"abcdefgh")) == [f"you said {c}" for c in "abcdefgh"]
    assert Counter(b["messages"][0]["content"] for b in stub.bodies) == Counter("abcdeffgh")


def test_damaged_entries_are_made_anew(serve, endpoint, tmp_path):
    stub = serve()
    ask(endpoint(stub))
    (entry,) = tmp_path.rglob("*.json")
    whole = entry.read_text()
    foreign = json.dumps({**json.loads(whole), "key": "0" * 64, "answer": "of another question"})
    for number, damage in enumerate(["", whole[: len(whole) // 2], "[]", "{}", foreign, "\udcff"], start=2):
        entry.write_bytes(damage.encode(errors="surrogateescape"))
        assert ask(endpoint(stub)) == "you said hi"
        assert len(stub.bodies) == number
        assert entry.read_text() == whole


def test_a_folder_that_takes_no_answers_is_an_error(serve, endpoint, tmp_path):
    (tmp_path / "answers").write_text("in the way")
    with pytest.raises(EndpointError, match="cannot be kept in"):
        ask(endpoint(serve()))


def test_the_key_is_sent_and_written_nowhere(serve, endpoint, tmp_path):
    # servers that repeat the key in answers and errors
    answering = serve(lambda body, n: completion(f"your key is {KEY}"))
    refusing = serve(lambda body, n: failure(401, f"Incorrect API key provided: {KEY}"))
    failing = serve(lambda body, n: failure(500, f"Authorization: Bearer {KEY}"))
    assert KEY not in ask(endpoint(answering))
    assert answering.keys == [f"Bearer {KEY}"]
    shown = [repr(endpoint(answering)), json.dumps(endpoint(answering).identity)]
    for stub in (refusing, failing):
        with pytest.raises(EndpointError) as caught:
            endpoint(stub).ask_all(requests("hi"))
        shown += [str(caught.value), "".join(traceback.format_exception(caught.value))]
    assert "refused the key in $OPENAI_API_KEY" in "".join(shown)
    written = [p.read_text() for p in tmp_path.rglob("*") if p.is_file()]
    assert written
    assert not [text for text in shown + written if KEY in text]


def test_without_a_key_a_server_that_wants_one_says_so(serve, endpoint, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    stub = serve(lambda body, n: failure(401, "no key"))
    with pytest.raises(EndpointError, match=r"wants a key: set \$MY_KEY"):
        ask(endpoint(stub, key_variable="MY_KEY"))
    # and one that wants none is asked
    assert ask(endpoint(serve())) == "you said hi"


def test_parameters_refused_by_name_are_sent_otherwise(serve, endpoint):
    def behave(body, number):
        for name in ("max_tokens", "temperature"):
            if name in body:
                return 400, {}, {"error": {"message": f"no {name}", "type": "t", "param": name, "code": "unsupported"}}
        return echo(body, number)

    stub = serve(behave)
    asked = endpoint(stub)
    assert ask(asked) == "you said hi"
    assert len(stub.bodies) == 3
    assert stub.bodies[-1] == {"model": "m", "messages": user("hi"), "max_completion_tokens": 9, "seed": 0}
    # remembered for the next question
    ask(asked, text="ho")
    assert len(stub.bodies) == 4


def test_another_refusal_is_an_error_at_once(serve, endpoint):
    stub = serve(lambda body, n: failure(404, "no such model"))
    with pytest.raises(EndpointError, match=r"refused: HTTP 404, .*no such model"):
        ask(endpoint(stub))
    assert len(stub.bodies) == 1


def test_a_missing_package_is_named(endpoint, serve, monkeypatch):
    stub = serve()
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(UsageError, match=r"pip install 'tuneshift\[openai\]'"):
        ask(endpoint(stub))
