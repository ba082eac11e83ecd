"""A judge over HTTP: one that answers well, wrongly, slowly and not at all."""

import json
import socket

import numpy as np
import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.data.records import Preference
from apo_jax.evaluate.judge import endpoint as endpoint_module
from apo_jax.evaluate.judge.asking import ask_all
from apo_jax.evaluate.judge.cache import Cache
from apo_jax.evaluate.judge.endpoint import Endpoint
from apo_jax.evaluate.judge.prompt import Comparison, messages
from apo_jax.evaluate.judge.section import judge_section, of_preference
from apo_jax.evaluate.judge.verdicts import read_verdict
from apo_jax.evaluate.request import JudgeRequest
from tests.evaluate.judge_server import KEY, Said, serve

COMPARISONS = [
  Comparison(
    f"q{number}", "\n\nHuman: Why?\n\nAssistant:", f" good {number}", f" bad {number} long"
  )
  for number in range(6)
]


@pytest.fixture(autouse=True)
def key(monkeypatch):
  monkeypatch.setenv("JUDGE_KEY", KEY)


def honest(asked):
  return Said("A" if asked.first.startswith("good") else "B")


def request(url, **changes):
  return JudgeRequest("stub", url, "JUDGE_KEY", **{"parallel": 2, "timeout": 5.0} | changes)


def ask(url, path, comparisons=COMPARISONS, **changes):
  judge = request(url, **changes)
  return ask_all(comparisons, judge, Endpoint(judge), Cache(path))


def test_both_orders_are_asked_and_read(tmp_path):
  with serve(honest) as server:
    found = ask(server.url, tmp_path / "cache.jsonl")
  assert np.all(found.picks == 1)  # whichever stood first
  assert found.counts == {"calls": 12, "tokens": 120}
  assert sorted(one.first[:3] for one in server.asked) == ["bad"] * 6 + ["goo"] * 6
  assert {one.authorization for one in server.asked} == {f"Bearer {KEY}"}


def test_answers_are_kept_also_behind_a_torn_line(tmp_path):
  path = tmp_path / "cache.jsonl"
  with serve(honest) as server:
    first = ask(server.url, path)
    again = ask(server.url, path)
    assert len(server.asked) == 12 and again.counts == {"cached": 12}
    np.testing.assert_array_equal(first.picks, again.picks)
    path.write_bytes(path.read_bytes()[:-20])
    torn = ask(server.url, path)
    assert torn.counts == {"cached": 11, "calls": 1, "tokens": 10}
    assert ask(server.url, path).counts == {"cached": 12}
    # Another question, model or repeat is another answer.
    assert ask(server.url, path, repeats=2).counts["calls"] == 12
    changed = [one._replace(ours=one.ours + "!") for one in COMPARISONS]
    assert ask(server.url, path, changed).counts["calls"] == 12


def test_no_verdict_is_asked_for_once_more_and_counted(tmp_path):
  def babbles(asked):
    is_bad = "good 0" in (asked.first, asked.second)
    return Said("A is better than B, I think") if is_bad else honest(asked)

  with serve(babbles) as server:
    found = ask(server.url, tmp_path / "cache.jsonl")
    assert found.counts["unreadable"] == 2 and found.counts["calls"] == 14
    assert np.all(np.isnan(found.picks[0])) and np.all(found.picks[1:] == 1)
    ask(server.url, tmp_path / "cache.jsonl")
    assert len(server.asked) == 14


@pytest.mark.parametrize("statuses", [[429], [500, 500, 500], [503, 429]])
def test_a_busy_endpoint_is_asked_again(tmp_path, statuses):
  def busy(asked):
    if asked.number < len(statuses):
      return Said("busy", statuses[asked.number])
    return honest(asked)

  with serve(busy) as server:
    found = ask(server.url, tmp_path / "cache.jsonl", COMPARISONS[:1], parallel=1)
  assert np.all(found.picks == 1)
  assert found.counts == {"calls": 2, "tokens": 20}
  assert len(server.asked) == 2 + len(statuses)


def test_a_question_that_is_refused_does_not_end_the_others(tmp_path):
  def refuses(asked):
    is_bad = "good 3" in (asked.first, asked.second)
    return Said("too long", 400) if is_bad else honest(asked)

  with serve(refuses) as server:
    found = ask(server.url, tmp_path / "cache.jsonl")
  assert np.flatnonzero(np.isnan(found.picks[:, 0, 0])).tolist() == [3]
  assert found.counts["failed"] == 2 and found.stopped is None
  assert "400" in next(iter(found.reasons)) and "too long" in next(iter(found.reasons))


def test_a_wrong_key_ends_it_at_once_and_is_never_shown(tmp_path, capsys):
  def wrong(asked):
    return Said(f"Incorrect key {KEY}", 401)

  with serve(wrong) as server:
    judge = request(server.url, parallel=1)
    with pytest.raises(ConfigError) as error:
      judge_section(
        "judge", "tests", COMPARISONS, judge, Endpoint(judge), tmp_path, of_people=False
      )
  assert len(server.asked) == 1
  assert "401" in str(error.value) and "Incorrect key (key)" in str(error.value)
  assert KEY not in str(error.value) + repr(judge) + "".join(capsys.readouterr())
  assert error.value.__cause__ is None


def test_the_key_is_in_no_file_and_no_result(tmp_path):
  def repeats_the_key(asked):
    said = honest(asked).text
    return Said(f"Your key is {KEY}.\n{said}")

  with serve(repeats_the_key) as server:
    judge = request(server.url)
    section = judge_section(
      "judge", "tests", COMPARISONS, judge, Endpoint(judge), tmp_path, of_people=False
    )
  (kept,) = tmp_path.iterdir()
  assert KEY not in kept.read_text() and "(key)" in kept.read_text()
  assert KEY not in json.dumps(section.record(), default=str) + section.text()
  assert section.measured.estimates["win_rate"].value == 1


@pytest.mark.parametrize("body", ["<html>", "{}", '"A"'])
def test_what_is_not_the_protocol_is_a_failure(tmp_path, body):
  with serve(lambda asked: Said(body=body)) as server:
    found = ask(server.url, tmp_path / "cache.jsonl", COMPARISONS[:1])
  assert found.counts["failed"] + found.counts.get("unreadable", 0) == 2
  assert np.all(np.isnan(found.picks))


def test_a_slow_endpoint_is_not_waited_for(tmp_path, monkeypatch):
  monkeypatch.setattr(endpoint_module, "RETRIES", 1)

  def slow(asked):
    is_slow = "good 0" in (asked.first, asked.second)
    return Said(honest(asked).text, seconds=1.5 if is_slow else 0.0)

  with serve(slow) as server:
    found = ask(server.url, tmp_path / "cache.jsonl", COMPARISONS[:3], timeout=0.4, parallel=6)
  assert found.reasons == {"no answer in time": 2}
  assert np.all(np.isnan(found.picks[0])) and np.all(found.picks[1:] == 1)


def test_nobody_there(tmp_path, monkeypatch):
  monkeypatch.setattr(endpoint_module, "RETRIES", 0)
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
  judge = request(url)
  with pytest.raises(ConfigError) as error:
    judge_section("judge", "tests", COMPARISONS, judge, Endpoint(judge), tmp_path, of_people=False)
  assert "no verdict on any of the 6 comparisons" in str(error.value)
  assert "no connection" in str(error.value) and url in str(error.value)


def test_an_endpoint_that_only_fails_is_not_asked_on(tmp_path, monkeypatch):
  monkeypatch.setattr(endpoint_module, "RETRIES", 0)
  with serve(lambda asked: Said("broken", 500)) as server:
    found = ask(server.url, tmp_path / "cache.jsonl", parallel=1)
  assert len(server.asked) == 8
  assert found.counts["not_asked"] == 4 and "the endpoint fails" in found.stopped


def test_the_budget_ends_it_and_what_is_missing_is_said(tmp_path):
  with serve(honest) as server:
    judge = request(server.url, budget=7, parallel=1)
    section = judge_section(
      "judge", "tests", COMPARISONS, judge, Endpoint(judge), tmp_path, of_people=False
    )
    assert len(server.asked) == 7
    assert section.plain["missing"] == 3 and len(section.measured.ids) == 3
    assert "Missing are 3 of 6 comparisons" in section.text()
    assert "--judge_budget of 7 calls is used up" in section.text()
    # The rest is asked by the next command.
    judge = request(server.url, budget=7, parallel=1)
    section = judge_section(
      "judge", "tests", COMPARISONS, judge, Endpoint(judge), tmp_path, of_people=False
    )
    assert len(server.asked) == 12 and section.plain["missing"] == 0
    few = ask(server.url, tmp_path / "other.jsonl", token_budget=35, parallel=1)
    assert few.counts["tokens"] == 40 and "--judge_token_budget of 35 tokens" in few.stopped


def test_an_interrupt_keeps_the_answers(tmp_path, monkeypatch):
  path = tmp_path / "cache.jsonl"
  put = Cache.put

  def interrupted(cache, *arguments):
    put(cache, *arguments)
    if len(path.read_text().splitlines()) == 3:
      raise KeyboardInterrupt

  monkeypatch.setattr(Cache, "put", interrupted)
  with serve(honest) as server:
    with pytest.raises(KeyboardInterrupt):
      ask(server.url, path, parallel=1)
    monkeypatch.setattr(Cache, "put", put)
    # What was under way may still come, and is kept as well.
    assert ask(server.url, path).counts["cached"] in (3, 4)
    assert len(server.asked) == 12


def test_equal_responses_tie_without_being_asked(tmp_path):
  same = [one._replace(theirs=f"{one.ours} ") for one in COMPARISONS[:2]]
  with serve(honest) as server:
    found = ask(server.url, tmp_path / "cache.jsonl", [*same, COMPARISONS[2]])
  assert len(server.asked) == 2
  assert found.picks[:, :, 0].tolist() == [[0.5, 0.5], [0.5, 0.5], [1, 1]]


def test_a_part_is_asked_again_for_self_consistency(tmp_path):
  with serve(honest) as server:
    found = ask(server.url, tmp_path / "cache.jsonl", COMPARISONS, repeats=3)
  assert found.picks.shape == (6, 2, 3) and len(server.asked) == 36  # ten at least are repeated


def test_a_key_that_is_not_set_is_named(monkeypatch):
  monkeypatch.delenv("JUDGE_KEY")
  with pytest.raises(ConfigError, match=r"--judge_key_env is 'JUDGE_KEY'.*not set"):
    Endpoint(request("http://127.0.0.1:1/v1"))
  Endpoint(JudgeRequest("m", "http://127.0.0.1:1/v1", ""))  # one that wants none


@pytest.mark.parametrize(
  ("reply", "verdict"),
  [
    ("A", "A"),
    (" b.\n", "B"),
    ("Tie", "tie"),
    ("**B**", "B"),
    ("[[A]]", "A"),
    ("Both are short.\nVerdict: A", "A"),
    ("Final answer is: Response B.", "B"),
    ("A is better than B", None),
    ("A or B", None),
    ("", None),
    ("neither", None),
    ("A\nbecause it is right", None),
    ("AB", None),
  ],
)
def test_verdicts(reply, verdict):
  assert read_verdict(reply) == verdict


def test_the_prompt_holds_the_texts_as_they_are():
  comparison = Comparison("q", "\n\nHuman: $first {x}\n\nAssistant:", " $second", " \\1 $$")
  (message,) = messages(comparison, ours_first=False)
  content = message["content"]
  assert "Human: $first {x}" in content
  assert content.index("<response_a>\n\\1 $$\n") < content.index("<response_b>\n$second\n")


def test_of_a_preference_the_best_stands_against_the_worst():
  record = Preference("q", "why", (" a", " b", " c", " d"), (1.0, 3.0, 0.0, 3.0))
  assert of_preference(record) == Comparison("q", "why", " b", " c")
