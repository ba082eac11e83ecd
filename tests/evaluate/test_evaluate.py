"""Evaluations of models that no run has made, and of runs, as a user asks for them."""

import dataclasses
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.data.tokens import load_tokenizer
from apo_jax.data.toy import dialogues
from apo_jax.evaluate.evaluate import evaluate
from apo_jax.evaluate.models import checkpoint_reward
from apo_jax.evaluate.request import JudgeRequest, Request
from apo_jax.logs.files import read_json, read_jsonl
from tests import checkpoints, finished_run, tiny
from tests.evaluate.judge_server import KEY, Said, serve

COUNT = 6


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
  """Two tiny policies, a reward model, and preferences, golden responses and benchmark rows."""
  place = tmp_path_factory.mktemp("evaluate")
  checkpoints.write(place / "policy")
  checkpoints.write(place / "other", seed=2)
  checkpoints.write(place / "reward", reward=True, seed=1)
  data = dialogues.generate(
    3, num_demonstrations=8, num_preferences=8, num_golden=8, num_queries=8, num_test=COUNT
  )
  preferences = data.test.preferences
  write(place / "preferences.jsonl", map(vars, preferences))
  write(place / "golden.jsonl", map(vars, data.test.golden))
  subsets = ("alpacaeval-easy", "math-prm", "mine")
  rows = [
    {
      "prompt": one.query.split("Human:")[1].split("\n\nAssistant")[0].strip(),
      "chosen": one.responses[0].strip(),
      "rejected": one.responses[1].strip(),
      "subset": subsets[number % 3],
      "id": number,
    }
    for number, one in enumerate(preferences)
  ]
  write(place / "bench.jsonl", rows)
  write(place / "elsewhere.jsonl", [{"query": "Who are you?", "response": "Ann."}])
  return place


def write(path, rows):
  path.write_text("".join(json.dumps(one) + "\n" for one in rows))


def numbers(output: Path, section: str) -> dict[str, float]:
  found = read_json(output / "evaluation.json")["sections"][section]["numbers"]
  return {name: one["value"] for name, one in found.items()}


def reward_by_hand(directory: Path, query: str, response: str) -> float:
  """The reward of the text that the chat template itself writes, read in one unpadded row."""
  tokenizer = load_tokenizer(directory, "a test")
  turns = [("user", query), ("assistant", response)]
  text = tokenizer.apply_chat_template(
    [{"role": role, "content": content} for role, content in turns], tokenize=False
  )
  ids = jnp.array([tokenizer(text, add_special_tokens=False)["input_ids"]])
  mesh = tiny.mesh()
  with jax.set_mesh(mesh):
    definition, parameters = checkpoint_reward(str(directory), "--reward").load(mesh)
    ends = jnp.zeros(ids.shape, bool).at[0, -1].set(True)
    segments = jnp.full(ids.shape, 2)
    positions = jnp.arange(ids.shape[1])[None]
    return float(definition.bind(parameters)(ids, segments, positions, ends, 1)[0, 0])


def test_a_hugging_face_policy_and_reward_model_that_no_run_made(place, tmp_path):
  asked = Request(
    policy=str(place / "policy"),
    queries=str(place / "golden.jsonl"),
    against="golden",
    reward=str(place / "reward"),
    preferences=str(place / "preferences.jsonl"),
    rewardbench=str(place / "bench.jsonl"),
    max_new_tokens=8,
    samples=2,
    output=str(tmp_path / "out"),
  )
  shown = []
  output = evaluate(asked, shown.append)

  bench = read_jsonl(output / "rewardbench_reward.jsonl")
  assert [one["subset"] for one in bench] == ["alpacaeval-easy", "math-prm", "mine"] * 2
  right = [(1 + np.sign(one["rewards"][0] - one["rewards"][1])) / 2 for one in bench]
  scores = numbers(output, "rewardbench_reward")
  assert scores["Chat"] == np.mean(right[0::3]) and scores["Reasoning"] == np.mean(right[1::3])
  assert scores["total"] == (scores["Chat"] + scores["Reasoning"]) / 2
  assert scores["mine"] == np.mean(right[2::3])
  rows = read_jsonl(place / "bench.jsonl")
  by_hand = reward_by_hand(place / "reward", rows[0]["prompt"], rows[0]["chosen"])
  assert bench[0]["rewards"][0] == pytest.approx(by_hand, abs=2e-5)

  preferences = read_jsonl(output / "preferences_reward.jsonl")
  won = [np.sign(np.subtract(*one["rewards"]) * np.subtract(*one["scores"])) for one in preferences]
  assert numbers(output, "preferences_reward")["accuracy"] == np.mean((1 + np.array(won)) / 2)

  answers = read_jsonl(output / "policy.jsonl")
  assert len(answers) == COUNT and {len(one["responses"]) for one in answers} == {2}
  golden = [one["against"][0]["text"] for one in answers]
  assert golden == [one["response"] for one in read_jsonl(place / "golden.jsonl")]
  wins = [
    np.mean(
      [(1 + np.sign(y["reward"] - one["against"][0]["reward"])) / 2 for y in one["responses"]]
    )
    for one in answers
  ]
  found = numbers(output, "policy")
  assert found["win_rate"] == pytest.approx(np.mean(wins))
  assert 0 < found["response_length"] <= 8
  text = (output / "evaluation.txt").read_text()
  assert text.strip() in "\n\n".join(one.strip() for one in shown)
  assert "win_rate" in text and "±" in text


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"reward": "policy"}, "--reward is .*a language model"),
    ({"policy": "reward"}, "--policy is .*a sequence classifier"),
    ({"max_new_tokens": 300}, "--max_new_tokens is 300.*256 positions"),
    ({"against": "elsewhere.jsonl"}, "--against is .*no response to any of the 6 queries"),
    ({"queries": "nowhere.jsonl"}, "--queries is .*nowhere.jsonl"),
    ({"policy": "nowhere"}, "--policy is .*nowhere"),
  ],
)
def test_what_is_not_there_is_said_before_any_work(place, tmp_path, changes, said):
  given = {
    "policy": "policy",
    "reward": "reward",
    "queries": "golden.jsonl",
    "against": "golden",
    "max_new_tokens": 8,
  } | changes
  paths = {"policy", "reward", "queries"} | ({"against"} & changes.keys())
  given |= {name: str(place / given[name]) for name in paths}
  given["output"] = str(tmp_path / "out")
  with pytest.raises(ConfigError, match=said):
    evaluate(Request(**given))
  assert not (tmp_path / "out").exists()


def test_a_judge_alone_and_its_key_is_nowhere(place, tmp_path, monkeypatch):
  monkeypatch.setenv("JUDGE_KEY", KEY)
  best = {
    max(zip(one["scores"], one["responses"], strict=True))[1].strip()
    for one in read_jsonl(place / "preferences.jsonl")
  }
  with serve(lambda asked: Said("A" if asked.first in best else "B")) as server:
    asked = Request(
      preferences=str(place / "preferences.jsonl"),
      judge=JudgeRequest("owner/judge", server.url, "JUDGE_KEY", repeats=2),
      output=str(tmp_path / "out"),
    )
    shown = []
    output = evaluate(asked, shown.append)
  found = numbers(output, "judge_preferences")
  assert found["accuracy_both"] == found["accuracy_both_denoised"] == 1
  assert found["flip_probability"] == found["position_bias"] == 0
  assert (output / "judge_owner_judge.jsonl").exists()
  everything = "".join(path.read_text() for path in output.iterdir()) + "".join(shown)
  assert KEY not in everything and "JUDGE_KEY" in everything


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
  run_dir = tmp_path_factory.mktemp("runs") / "run"
  finished_run.make(run_dir)
  return run_dir


@pytest.mark.slow
def test_a_round_that_is_not_there(run, tmp_path):
  with pytest.raises(ConfigError, match=r"--round is 7, in which no reward was finished"):
    evaluate(Request(run=str(run), round=7, output=str(tmp_path / "out")))
  assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_run_again_is_what_its_round_found(tmp_path):
  """On a played game: the numbers of evaluation.json, the matrix and the implicit reward."""
  from apo_jax import game

  played = tmp_path / "run"
  game.play(tiny.config(rounds=1, sampling__evaluation__num_samples=2), played)
  before = {path: path.read_bytes() for path in played.rglob("*") if path.is_file()}
  asked = Request(run=str(played), matrix=True, implicit=True, against="golden")
  output = evaluate(dataclasses.replace(asked, output=str(tmp_path / "out")))
  expected = read_json(played / "rounds/01/evaluation.json")
  policy, reward = numbers(output, "policy"), numbers(output, "preferences_reward")
  for name in ("testing_reward", "true_utility", "response_length", "unfinished", "distinct_2"):
    assert policy[name] == pytest.approx(expected[name], abs=1e-4), name
  assert policy["win_rate"] == pytest.approx(expected["win_rate_golden"])
  assert reward["accuracy"] == pytest.approx(expected["reward_accuracy"])
  assert reward["ece"] == pytest.approx(expected["reward_ece"], abs=1e-4)
  testing = numbers(output, "preferences_testing_reward")
  assert testing["accuracy"] == pytest.approx(expected["testing_accuracy"])

  matrix = numbers(output, "matrix_preferences")
  assert list(matrix) == ["base", "round 1", "testing"]
  assert matrix["round 1"] == pytest.approx(expected["reward_accuracy"])
  rows = read_jsonl(played / "rounds/01/test_samples.jsonl")
  won = [
    np.mean(
      [(1 + np.sign(row["golden_testing_reward"] - one["testing_reward"])) / 2 for one in others]
    )
    for row in rows
    if (others := [one for one in row["samples"] if one["text"] != row["golden"]])
  ]
  assert numbers(output, "matrix_pairs_of_round_1")["testing"] == pytest.approx(np.mean(won))

  implicit = numbers(output, "implicit")
  assert implicit["explicit_accuracy"] == pytest.approx(expected["reward_accuracy"])
  gap = implicit["explicit_accuracy"] - implicit["implicit_accuracy"]
  assert implicit["gap"] == pytest.approx(gap)
  ranked, items = numbers(output, "ranking"), read_jsonl(output / "ranking.jsonl")
  judged = read_jsonl(output / "policy.jsonl")
  pairs = []
  for one, answers in zip(items, judged, strict=True):
    responses = [*answers["responses"], *answers["against"]]
    assert one["reward"] == pytest.approx([response["reward"] for response in responses])
    for first, second in itertools.combinations(range(len(responses)), 2):
      by_judge, by_policy = (one[key][first] - one[key][second] for key in ("reward", "implicit"))
      pairs += [(1 + np.sign(by_judge * by_policy)) / 2] if by_judge else []
  assert ranked["ranking_accuracy"] == pytest.approx(np.mean(pairs))
  assert ranked["ndcg_of_chance"] < 1 and 0 < ranked["ndcg"] <= 1
  assert {path: path.read_bytes() for path in played.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_against_a_run_s_round_and_a_file(place, run, tmp_path):
  given = {"queries": str(place / "golden.jsonl"), "reward": str(place / "reward")}
  asked = Request(policy=str(place / "policy"), max_new_tokens=8, **given)
  output = evaluate(dataclasses.replace(asked, against=f"{run}:0", output=str(tmp_path / "by_run")))
  title = read_json(output / "evaluation.json")["sections"]["policy"]["title"]
  assert "against run, policy of round 0" in title
  shutil.copy(place / "golden.jsonl", tmp_path / "answers.jsonl")
  by_file = evaluate(
    dataclasses.replace(
      asked, against=str(tmp_path / "answers.jsonl"), output=str(tmp_path / "by_file")
    )
  )
  golden = evaluate(dataclasses.replace(asked, against="golden", output=str(tmp_path / "golden")))
  assert numbers(by_file, "policy") == numbers(golden, "policy")


@pytest.mark.slow
def test_the_same_policy_twice_ties_and_the_command_says_so(place, tmp_path):
  command = [
    *(sys.executable, "-m", "apo_jax.evaluate", f"--policy={place / 'policy'}"),
    *(f"--against={place / 'policy'}", f"--queries={place / 'golden.jsonl'}"),
    *(f"--reward={place / 'reward'}", "--max_new_tokens=8", f"--output={tmp_path / 'out'}"),
  ]
  environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
  result = subprocess.run(
    command, cwd=tiny.ROOT, capture_output=True, text=True, env=environment, timeout=300
  )
  assert result.returncode == 0, result.stderr
  assert f"All of it is in {tmp_path / 'out'}." in result.stdout
  assert numbers(tmp_path / "out", "policy")["win_rate"] == 0.5


@pytest.mark.slow
def test_an_interrupted_judge_keeps_its_answers(place, tmp_path):
  command = [
    *(sys.executable, "-m", "apo_jax.evaluate", "--judge=stub", "--judge_key_env="),
    *(f"--preferences={place / 'preferences.jsonl'}", "--judge_parallel=1"),
    f"--output={tmp_path / 'out'}",
  ]
  kept = tmp_path / "out" / "judge_stub.jsonl"
  with serve(lambda asked: Said("A", seconds=0.5)) as server:
    process = subprocess.Popen(
      [*command, f"--judge_url={server.url}"],
      cwd=tiny.ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      env={**os.environ, "JAX_PLATFORMS": "cpu"},
      preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    for _ in range(1200):
      if kept.exists() and len(kept.read_text().splitlines()) >= 2:
        break
      time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
  assert process.returncode == 130, errors
  assert "Stopped. A judge's answers are kept" in said and "Traceback" not in errors
  assert 2 <= len(kept.read_text().splitlines()) < 2 * COUNT
