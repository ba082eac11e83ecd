"""The whole game, tiny: what it writes, and that stopping it anywhere changes nothing."""

import dataclasses
import functools
import importlib
import json
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from apo_jax import game
from apo_jax.config.base import FORMAT, to_json
from apo_jax.config.fields import ConfigError
from apo_jax.logs.files import json_text, read_json, read_jsonl, write_json
from apo_jax.logs.metrics import read_metrics
from apo_jax.models import row_cost
from apo_jax.preview import previewing
from apo_jax.run import lock, parameters, parking
from apo_jax.run.ownership import identity
from apo_jax.run.phase_inputs import phase_names
from tests import recorded_game, tiny
from tests.run.test_phase_inputs import check_table


class Stopped(Exception):
  """Stands for the end of the process."""


@pytest.fixture(scope="module", autouse=True)
def shared_rows():
  """Responses share rows, which would not pay in a model this small."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(row_cost, "SOFTMAX_FLOPS", 0.0)
    yield


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> tuple[Path, recorded_game.Reads]:
  """The run directory of an uninterrupted game of two rounds, and what its phases read."""
  run_dir = tmp_path_factory.mktemp("runs") / "whole"
  return run_dir, recorded_game.play(tiny.config(), run_dir)


@pytest.fixture(scope="module")
def finished(recorded) -> Path:
  """The run directory of that game."""
  return recorded[0]


def test_phases_read_what_their_table_names(recorded):
  config, reads = tiny.config(), recorded[1]
  assert set(reads.fields) == {*recorded_game.PARTS, *phase_names(config)}
  check_table(config, reads)


def numbers(run_dir: Path) -> dict:
  """Everything a run measured, without the times it took."""
  metrics = [
    {name: value for name, value in line.items() if name != "time"}
    for line in read_metrics(run_dir)
  ]
  evaluations = [read_json(path) for path in sorted(run_dir.glob("rounds/*/evaluation.json"))]
  samples = [path.read_text() for path in sorted(run_dir.glob("rounds/*/*_samples.jsonl"))]
  return {"metrics": metrics, "evaluations": evaluations, "samples": samples}


def test_the_run_directory_holds_everything(finished):
  found = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
  expected = {"config.json", "metrics.jsonl", "report.html", "rounds/00/test_samples.jsonl"}
  for round in ("01", "02"):
    expected |= {
      f"rounds/{round}/{name}"
      for name in (
        "provenance.json",
        "golden_samples.jsonl",
        "policy_samples.jsonl",
        "test_samples.jsonl",
        "judgements.json",
        "reward.json",
        "score.json",
        "policy.json",
        "evaluation.json",
        "health.json",
      )
    }
  assert expected <= found
  players = {path.name for path in (finished / "checkpoints").iterdir()}
  assert players == {
    "00_supervised",
    "00_reward_base",
    "00_testing_reward",
    *(f"{round}_{player}" for round in ("01", "02") for player in ("reward", "policy")),
  }


@pytest.mark.slow
def test_phases_with_a_judge_of_its_own_read_what_their_table_names(tmp_path):
  config = tiny.config(
    rounds=1,
    testing_reward__shape=tiny.JUDGE,
    testing_reward__preferences="policy",
    sampling__evaluation__top_k=5,
    policy__shapings=("missing_end",),
  )
  reads = recorded_game.play(config, tmp_path)
  assert set(reads.fields) == {*recorded_game.PARTS, *phase_names(config)}
  check_table(config, reads)


def test_samples_are_scored_and_complete(finished):
  config = tiny.config()
  for round in ("01", "02"):
    golden = read_jsonl(finished / f"rounds/{round}/golden_samples.jsonl")
    sampled = read_jsonl(finished / f"rounds/{round}/policy_samples.jsonl")
    assert len(golden) == config.data.num_golden
    assert len(sampled) == config.data.num_queries
    assert all(query["golden_reward"] is not None for query in golden)
    assert all(query["golden_utility"] == 1.0 for query in golden)
    for query in golden + sampled:
      assert len(query["samples"]) == config.sampling.training.num_samples
      for sample in query["samples"]:
        assert np.isfinite(sample["reward"])
        assert 0 <= sample["utility"] <= 1
      read = [s for s in query["samples"] if s["reference_logprob"] is not None]
      if query["golden"] is None:
        assert all(sample["shaped_reward"] == sample["reward"] for sample in query["samples"])
        # The best and the worst, which are one where all others say nothing.
        said = [s for s in query["samples"] if s["text"].strip()]
        finished_rewards = [s["reward"] for s in said if s["finished"]]
        bound = max(finished_rewards, default=np.inf)
        # What ran into the limit is never the best where something ended.
        rewards = [s["reward"] for s in said if s["finished"] or s["reward"] < bound]
        assert {s["reward"] for s in read} == ({max(rewards), min(rewards)} if rewards else set())
      else:
        assert not read
    # In round 1 the policy that samples is the reference: both passes must agree.
    if round == "01":
      for query in sampled:
        for sample in query["samples"]:
          if sample["reference_logprob"] is not None and sample["drew_end"]:
            logprobs = sample["logprob"], sample["reference_logprob"]
            np.testing.assert_allclose(*logprobs, atol=2e-3)


def test_every_update_is_logged_once(finished):
  lines = [(line["round"], line["phase"], line["step"]) for line in read_metrics(finished)]
  assert len(set(lines)) == len(lines)
  config = tiny.config()
  for round in (1, 2):
    steps = [step for r, phase, step in lines if (r, phase) == (round, "policy")]
    assert steps == list(range(1, config.data.num_queries // 8 + 1))


@pytest.mark.slow
def test_stopping_after_any_phase_changes_nothing(finished, tmp_path):
  """Ends the process after each phase of a game of one round, which then goes on for another."""
  config, longer = tiny.config(rounds=1), tiny.config(checkpoints__keep=1)
  played = []

  def key(phase):
    return phase.round, phase.result

  def stop(phase):
    played.append(key(phase))
    raise Stopped

  run_dir = tmp_path / "run"
  before = [key(phase) for phase in game.phases(config)]
  for _ in before:
    with pytest.raises(Stopped):
      game.play(config, run_dir, on_phase_end=stop)
  assert played == before
  game.play(longer, run_dir, on_phase_end=lambda phase: played.append(key(phase)))
  game.play(longer, run_dir, on_phase_end=lambda phase: pytest.fail("played again"))
  assert played == [key(phase) for phase in game.phases(longer)]
  assert numbers(run_dir) == numbers(finished)
  kept = {path.name for path in (run_dir / "checkpoints").iterdir()}
  assert "01_policy" not in kept and "02_policy" in kept and "00_supervised" in kept
  assert read_json(run_dir / "config.json")["rounds"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["reward", "policy"])
def test_stopping_within_a_training_phase_changes_nothing(finished, tmp_path, phase, monkeypatch):
  """An update of round 1 fails after a checkpoint; the next start goes on from there."""
  run_dir = tmp_path / "run"
  shutil.copytree(finished, run_dir)
  order = [p.result for p in game.phases(tiny.config()) if p.round == 1]
  for name in order[order.index(f"{phase}.json") :]:
    (run_dir / "rounds" / "01" / name).unlink()
  shutil.rmtree(run_dir / "rounds" / "02")
  for player in ("01_policy", "02_policy", "02_reward", f"01_{phase}"):
    shutil.rmtree(run_dir / "checkpoints" / player, ignore_errors=True)

  from apo_jax.training import loop

  save = loop.PhaseCheckpoints.save

  def save_then_stop(self, state, step, position):
    save(self, state, step, position)
    raise Stopped

  config = dataclasses.replace(
    tiny.config(), checkpoints=dataclasses.replace(tiny.config().checkpoints, every_steps=1)
  )
  with monkeypatch.context() as patch, pytest.raises(Stopped):
    patch.setattr(loop.PhaseCheckpoints, "save", save_then_stop)
    game.play(config, run_dir)
  game.play(config, run_dir)
  ours, theirs = numbers(run_dir), numbers(finished)
  assert ours["evaluations"] == theirs["evaluations"]
  assert ours["samples"] == theirs["samples"]
  key = lambda line: (line["round"], line["phase"], line["step"])  # noqa: E731
  assert sorted(ours["metrics"], key=key) == sorted(theirs["metrics"], key=key)


def keep_rows_of_the_start(run_dir: Path) -> None:
  """Leaves of metrics.jsonl the lines of round 0, as they are."""
  metrics = run_dir / "metrics.jsonl"
  lines = metrics.read_text().splitlines(keepends=True)
  metrics.write_text("".join(line for line in lines if json.loads(line)["round"] == 0))


@pytest.mark.slow
def test_parking_the_idle_player_changes_no_number(finished, tmp_path, monkeypatch):
  """The first round again, with parameters that go to the host and back between phases."""
  run_dir = tmp_path / "run"
  shutil.copytree(finished, run_dir)
  for path in (*run_dir.glob("rounds/0[12]"), *run_dir.glob("checkpoints/0[12]_*")):
    shutil.rmtree(path)
  keep_rows_of_the_start(run_dir)
  moved = []

  def park(tree, kind, in_use=()):
    parked = parking.park(tree, kind, in_use)
    moved.append(
      any(a is not b for a, b in zip(*map(jax.tree.leaves, (tree, parked)), strict=True))
    )
    return parked

  monkeypatch.setattr(parameters, "park", park)
  game.play(tiny.config(rounds=1, memory__park_idle_player=True), run_dir)
  # Before the reward step the policy, after it has begun its start; the reward model for the
  # policy's samples; and so on.
  assert sum(moved) >= 6
  first = [line for line in numbers(finished)["metrics"] if line["round"] <= 1]
  assert numbers(run_dir)["metrics"] == first
  for path in ("evaluation.json", "golden_samples.jsonl", "policy_samples.jsonl"):
    ours, theirs = (run / "rounds/01" / path for run in (run_dir, finished))
    assert ours.read_bytes() == theirs.read_bytes()


def test_a_training_phase_tells_its_first_update_apart(finished):
  for phase in ("00/supervised", "00/reward_base", "01/reward", "02/policy"):
    took = read_json(finished / f"rounds/{phase}.json")
    assert 0 < took["seconds_to_first_update"] <= took["seconds"]


def test_provenance_names_what_a_round_started_from(finished):
  provenance = read_json(finished / "rounds/02/provenance.json")
  assert provenance["sampling_policy"] == "01_policy"
  assert provenance["policy_start"] == provenance["reference"] == "01_policy"
  assert provenance["reward_start"] == "01_reward"
  assert provenance["seed"] == 0
  first = read_json(finished / "rounds/01/provenance.json")
  assert first["data_sha256"] == provenance["data_sha256"]
  assert first["sampling_policy"] == "00_supervised"


@functools.cache
def played(**changes) -> list[str]:
  config = tiny.config(**changes)
  return [f"{phase.round} {phase.result}" for phase in game.phases(config)]


def test_baselines_are_one_field_apart():
  game_, preferences, fixed = (
    played(rounds=1, reward__mode=update) for update in ("adversarial", "preferences_only", "fixed")
  )
  assert "1 golden_samples.jsonl" in game_
  assert preferences == [name for name in game_ if name != "1 golden_samples.jsonl"]
  assert fixed == [name for name in preferences if name != "1 reward.json"]


@pytest.mark.slow
@pytest.mark.parametrize(
  "changes",
  [
    {"reward__mode": "preferences_only", "policy__loss": "rjs"},
    {"reward__mode": "fixed", "policy__loss": "rrhf", "sampling__evaluation__top_k": 5},
    {"reward__start": "base", "policy__start": "base", "policy__reference": "initial"},
    {
      "reward__apo__reduction": "reference",
      "reward__apo__kind": "difference",
      "policy__dpo__pairs": "all",
    },
  ],
  ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_other_ways_to_play(finished, tmp_path, changes):
  """Each option plays on from the finished supervised start, and plays differently."""
  # A second round only where what it starts from is the question.
  last = 2 if "policy__start" in changes else 1
  config = tiny.config(rounds=last, **changes)
  run_dir = shutil.copytree(
    finished, tmp_path / "run", ignore=shutil.ignore_patterns("0[12]", "0[12]_*", "report.html")
  )
  keep_rows_of_the_start(run_dir)
  write_json(run_dir / "config.json", to_json(config))
  check_table(config, recorded_game.play(config, run_dir))
  ours = read_json(run_dir / f"rounds/0{last}/evaluation.json")
  assert np.isfinite(ours["testing_reward"])
  assert ours != read_json(finished / f"rounds/0{last}/evaluation.json")
  provenance = read_json(run_dir / f"rounds/0{last}/provenance.json")
  if changes.get("policy__start") == "base":
    assert provenance["policy_start"] == provenance["reference"] == "00_supervised"
    assert provenance["reward_start"] == "00_reward_base"
    assert provenance["sampling_policy"] == "01_policy"
  if changes.get("reward__mode") == "fixed":
    assert not (run_dir / "checkpoints" / "01_reward").exists()
  if "sampling__evaluation__top_k" in changes:
    # Filtered samples say nothing of a KL: it is of others, drawn for it alone.
    judged = read_jsonl(run_dir / "rounds/01/test_samples.jsonl")
    assert all(row["samples"][0]["reference_logprob"] is None for row in judged)
    assert ours["kl_to_start"] != 0 and ours["standard_errors"]["kl_to_start"] > 0


def test_another_config_in_the_same_directory_is_refused(finished):
  before = numbers(finished)
  with pytest.raises(ConfigError, match=r"config.policy.dpo.beta is 0.5, .* started with"):
    game.play(tiny.config(policy__dpo__beta=0.5), finished)
  assert numbers(finished) == before


def test_a_run_directory_of_another_format_is_refused(finished, tmp_path):
  run_dir = tmp_path / "run"
  shutil.copytree(finished, run_dir)
  known = read_json(run_dir / "config.json")
  assert known["format"] == FORMAT and known["policy"]["dpo"] == {
    "beta": 0.1,
    "pairs": "best_worst",
  }
  first = {name: value for name, value in known.items() if name != "format"}  # it had no number
  for older, number in (({**known, "format": FORMAT - 1}, FORMAT - 1), (first, 1)):
    (run_dir / "config.json").write_text(json.dumps(older))
    with pytest.raises(ConfigError, match=rf"has format {number}, .* reads {FORMAT}"):
      game.play(tiny.config(), run_dir)


def test_changed_data_in_the_same_directory_is_refused(finished, tmp_path):
  """The paths are the same and the config with them; what the files hold is not."""
  run_dir = tmp_path / "run"
  shutil.copytree(finished, run_dir)
  known = read_json(run_dir / "data.json")
  assert known["demonstrations"] == tiny.config().data.num_demonstrations
  (run_dir / "data.json").write_text(json.dumps({**known, "sha256": "0" * 64}))
  with pytest.raises(ConfigError, match="data has changed since the run"):
    game.play(tiny.config(), run_dir)


def test_a_directory_in_which_another_process_plays_is_left_alone(finished, tmp_path):
  run_dir = shutil.copytree(
    finished, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints")
  )
  half_written = run_dir / f"rounds/01/.score.json.{'0123' * 8}.tmp"
  strangers = run_dir / "rounds/01/.notes.tmp"
  half_written.touch()
  strangers.touch()
  with (
    lock.owned(run_dir / "owner.json", print),
    pytest.raises(ConfigError, match=rf"in which process {os.getpid()} of .* plays; wait for it"),
  ):
    game.play(tiny.config(), run_dir)
  assert half_written.exists()
  game.play(tiny.config(), run_dir)  # the owner has ended
  assert not half_written.exists() and not (run_dir / "owner.json").exists()
  assert strangers.exists()


def change_a_digit(path: Path) -> None:
  content = bytearray(path.read_bytes())
  place = max(index for index, byte in enumerate(content) if chr(byte).isdigit())
  content[place] = ord("7") if content[place] != ord("7") else ord("3")
  path.write_bytes(content)


@pytest.mark.parametrize(
  "name", ["00/test_samples.jsonl", "01/golden_samples.jsonl", "01/score.json", "02/policy.json"]
)
def test_a_changed_result_is_named_before_anything_is_read(finished, tmp_path, name):
  run_dir = shutil.copytree(
    finished, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints")
  )
  change_a_digit(run_dir / "rounds" / name)
  with pytest.raises(
    ConfigError, match=rf"rounds/{name}, which .* wrote, has changed since.*repair"
  ):
    game.play(tiny.config(), run_dir)


def test_a_missing_result_before_finished_phases_is_named(finished, tmp_path):
  run_dir = shutil.copytree(
    finished, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints")
  )
  (run_dir / "rounds/00/reward_base.json").unlink()
  with pytest.raises(ConfigError, match=r"rounds/00/reward_base\.json, which .* is gone.*repair"):
    game.play(tiny.config(), run_dir)


@pytest.mark.slow
def test_a_damaged_run_is_repaired_and_ends_as_it_had(finished, tmp_path):
  """A result of round 2, and the policy of round 1, whose two updates are made again."""
  run_dir = shutil.copytree(finished, tmp_path / "run")
  change_a_digit(run_dir / "rounds/02/policy_samples.jsonl")
  files = [path for path in (run_dir / "checkpoints/01_policy").rglob("parameters/**/d/*")]
  largest = max(files, key=lambda path: path.stat().st_size)
  content = bytearray(largest.read_bytes())
  content[len(content) // 2] ^= 4
  largest.write_bytes(content)
  with pytest.raises(ConfigError, match=r"policy_samples\.jsonl"):
    game.play(tiny.config(), run_dir)
  played = []
  game.play(
    tiny.config(), run_dir, repair=True, on_phase_end=lambda phase: played.append(phase.name)
  )
  assert played[0] == (1, "policy.json") and len(played) == 2 + 6
  assert numbers(run_dir) == numbers(finished)


def test_a_preview_knows_the_data_that_the_run_has(finished, tmp_path):
  told = previewing.preview(tiny.config(), "tiny.py", tmp_path / "run")
  assert json.loads(json_text(told.data)) == read_json(finished / "data.json")
  going_on = previewing.preview(tiny.config(rounds=3), "tiny.py", finished)
  assert f"goes on with the run in {finished}" in " ".join(going_on.text.split())
  assert not (tmp_path / "run").exists()
  with pytest.raises(ConfigError, match=r"config\.seed is 1, but the run in"):
    previewing.preview(tiny.config(seed=1), "tiny.py", finished)


def test_a_refused_start_leaves_the_directory_free(tmp_path, monkeypatch):
  """What only the tokenizer can tell is told before anything is kept."""
  import_module = importlib.import_module

  def missing(name, *more):
    if name == "wandb":
      raise ModuleNotFoundError(name=name)
    return import_module(name, *more)

  run_dir = tmp_path / "run"
  with pytest.raises(ConfigError, match=r"config.data.separator is '<sep>'"):
    game.play(tiny.config(data__separator="<sep>"), run_dir)
  with pytest.raises(ConfigError, match=r"config.sampling.training.stop holds '。'"):
    game.play(tiny.config(sampling__training__stop=("。",)), run_dir)
  # A package that is missing is found later still.
  monkeypatch.setattr(importlib, "import_module", missing)
  with pytest.raises(ConfigError, match=r"config.logging.wandb is True, but the package wandb"):
    game.play(tiny.config(logging__wandb=True), run_dir)
  assert not run_dir.exists()


@pytest.mark.parametrize("content", ["a file", "{damaged"])
def test_a_run_directory_that_cannot_be_one_is_named(tmp_path, content):
  run_dir = tmp_path / "run"
  if content == "a file":
    run_dir.write_text("")
  else:
    run_dir.mkdir()
    (run_dir / "config.json").write_text(content)
  with pytest.raises(ConfigError, match=r"--run_dir is .*run.*, which cannot be used"):
    game.play(tiny.config(), run_dir)
  with pytest.raises(ConfigError, match="write gs://bucket/run"):
    game.play(tiny.config(), Path("gs://bucket/run"))


def test_a_report_that_is_missing_is_written_by_the_next_start(finished, tmp_path):
  run_dir = tmp_path / "run"
  shutil.copytree(finished, run_dir)
  (run_dir / "report.html").unlink()
  report = game.play(tiny.config(), run_dir)
  assert "<html" in report.read_text()


def test_identity_ignores_where_and_how_long():
  one = identity(tiny.config())
  assert one == identity(tiny.config(rounds=5, health__kl=3.0, logging__tensorboard=True))
  assert one != identity(tiny.config(seed=1))


def test_evaluation_is_recorded(finished):
  start, first, end = (
    read_json(finished / f"rounds/{r}/evaluation.json") for r in ("00", "01", "02")
  )
  assert start["kl_to_start"] == start["standard_errors"]["kl_to_start"] == 0.0
  assert start["win_rate_start"] == 0.5 and start["standard_errors"]["win_rate_start"] == 0.0
  assert end["kl_to_start"] != 0  # an estimate from 16 samples, of either sign
  assert end["testing_accuracy"] == start["testing_accuracy"]
  assert sum(end["calibration"]["count"]) == 2 * tiny.config().data.num_test
  assert 0 <= end["win_rate_golden"] <= 1
  samples = read_jsonl(finished / "rounds/02/test_samples.jsonl")
  utilities = [row["samples"][0]["utility"] for row in samples]
  np.testing.assert_allclose(end["true_utility"], np.mean(utilities))
  # Unfinished samples are told from finished ones.
  unfinished = [not row["samples"][0]["finished"] for row in samples]
  np.testing.assert_allclose(end["unfinished"], np.mean(unfinished))
  # Samples without filters are those of the KL, and have a reference beside the first round.
  assert all(row["samples"][0]["reference_logprob"] is not None for row in samples)

  # Errors are over queries, and rounds are compared query by query.
  error = np.std(utilities, ddof=1) / np.sqrt(len(utilities))
  np.testing.assert_allclose(end["standard_errors"]["true_utility"], error)
  assert "differences" not in start
  assert first["differences"]["previous"] == first["differences"]["start"]
  before = [
    row["samples"][0]["utility"] for row in read_jsonl(finished / "rounds/01/test_samples.jsonl")
  ]
  gain = end["differences"]["previous"]["true_utility"]
  paired = np.subtract(utilities, before)
  np.testing.assert_allclose(gain["difference"], np.mean(paired), atol=1e-12)
  np.testing.assert_allclose(gain["standard_error"], np.std(paired, ddof=1) / np.sqrt(len(paired)))
  unchanged = end["differences"]["start"]["testing_accuracy"]
  assert unchanged == {"difference": 0.0, "standard_error": 0.0}


def test_jax_has_no_mesh_left_behind(finished):
  assert jax.sharding.get_abstract_mesh().empty


@pytest.mark.slow
def test_a_judge_of_its_own_shape_plays_to_its_first_judgement(tmp_path):
  small = {"data__num_demonstrations": 16, "evaluation__num_queries": 8, "rounds": 0}
  config = tiny.config(testing_reward__shape=tiny.JUDGE, **small)
  listed = [phase.result for phase in game.phases(config)]
  assert listed.index("testing_trunk.json") < listed.index("testing_reward.json")
  assert "testing_trunk.json" not in [phase.result for phase in game.phases(tiny.config())]
  game.play(config, tmp_path)
  assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {
    "00_supervised",
    "00_reward_base",
    "00_testing_trunk",
    "00_testing_reward",
  }
  place = tmp_path / "rounds/00"
  assert read_json(place / "testing_reward.json")["started_from"] == "00_testing_trunk"
  assert read_json(place / "judge.json")["parameters"] < 16_000
  evaluation = read_json(place / "evaluation.json")
  assert np.isfinite(evaluation["testing_reward"])
  # Two models judge, not one twice.
  trained = evaluation["reward_accuracy"], evaluation["golden_margin"]
  assert trained != (evaluation["testing_accuracy"], evaluation["testing_reward"])
