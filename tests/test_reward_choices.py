"""A round with each choice of the reward side, played from the command line."""

import subprocess
import sys
from pathlib import Path

import pytest

from apo_jax.logs.files import read_json, read_jsonl
from apo_jax.logs.metrics import read_metrics
from tests import checkpoints, recorded_game, tiny
from tests.run.test_phase_inputs import check_table

GAMES = {
  "grm_and_min_norm": {
    "model.shape.tied_embeddings": False,
    "reward.terms": ("grm",),
    "reward.grm.data": "both",
    "reward.weighting": "min_norm",
    "reward.training.accumulation": 2,
  },
  "golden_vs_initial": {"reward.contrast": "golden_vs_initial", **checkpoints.ROOM},
  "supervised_vs_initial": {
    "reward.contrast": "supervised_vs_initial",
    "reward.terms": ("grm",),
    "reward.lora.rank": 2,
    "policy.lora.rank": 2,
    **checkpoints.ROOM,
  },
}


def play(run_dir: Path, name: str) -> None:
  given = dict(GAMES[name])
  if name != "grm_and_min_norm":
    given["model.checkpoint"] = checkpoints.write(run_dir.parent / "checkpoint")
  flags = tiny.flags(rounds=1, **given)
  command = [sys.executable, "-m", "apo_jax.main", *flags, f"--run_dir={run_dir}"]
  done = subprocess.run(command, cwd=tiny.ROOT, capture_output=True, text=True, timeout=1500)
  assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_phases_read_what_their_table_says(tmp_path):
  """As tests/test_game.py of other games; of one that needs a checkpoint."""
  language_model = checkpoints.write(tmp_path / "checkpoint")
  given = {**GAMES["supervised_vs_initial"], "reward.weighting": "min_norm"}
  fields = {name.replace(".", "__"): value for name, value in given.items()}
  config = tiny.config(rounds=1, model__checkpoint=str(language_model), **fields)
  check_table(config, recorded_game.play(config, tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.parametrize("name", GAMES)
def test_a_round(tmp_path, name):
  run_dir = tmp_path / "run"
  play(run_dir, name)
  assert read_json(run_dir / "rounds/01/evaluation.json") and (run_dir / "report.html").exists()
  lines = [line for line in read_metrics(run_dir) if line["phase"] == "reward"]
  assert lines and all("golden_loss" in line for line in lines)
  if name == "grm_and_min_norm":
    for line in lines:
      weights = line["preference_weight"], line["golden_weight"]
      assert sum(weights) == pytest.approx(1, rel=1e-5)
      parts = weights[0] * line["preference_loss"] + weights[1] * line["golden_loss"]
      assert line["loss"] == pytest.approx(parts + 0.01 * line["grm_loss"], rel=1e-4)
    return
  before = run_dir / "rounds/00"
  initial = read_jsonl(before / "initial_samples.jsonl")
  assert not (run_dir / "rounds/01/golden_samples.jsonl").exists()
  supervised = before / "supervised_samples.jsonl"
  assert supervised.exists() == (name == "supervised_vs_initial")
  if supervised.exists():
    others = read_jsonl(supervised)
    assert [row["query_id"] for row in others] == [row["query_id"] for row in initial]
    assert others != initial
    assert all(line["grm_loss"] > 0 for line in read_metrics(run_dir) if "grm_loss" in line)
