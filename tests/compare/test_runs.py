"""Which runs are compared, and how they are grouped and named."""

import json
import re
import shutil

import pytest

from apo_jax.compare.comparison import compare
from apo_jax.compare.runs import find_runs
from apo_jax.compare.settings import find_baseline, make_settings
from apo_jax.config.fields import ConfigError
from apo_jax.logs.files import read_json, write_json
from apo_jax.objectives import DPO, RRHF, RejectionSampling
from tests.compare.written import config, write_grid, write_run


def settings_of(*paths):
  return make_settings(find_runs(paths).runs)


def test_runs_are_found_in_a_folder_in_the_order_of_their_numbers(tmp_path):
  for seed in (10, 2):
    write_run(tmp_path / f"deep/seed={seed}", config(seed=seed))
  write_json(tmp_path / "exported/config.json", {"model_type": "llama"})
  found = find_runs([tmp_path, tmp_path / "deep/seed=2"])
  assert [run.seed for run in found.runs] == [2, 10] and not found.left_out


def test_seeds_and_what_changes_no_game_make_one_setting(tmp_path):
  write_run(tmp_path / "b", config(seed=4, rounds=2))
  write_run(tmp_path / "a", config(seed=3))
  (one,) = settings_of(tmp_path / "b", tmp_path / "a")
  assert (one.name, one.seeds, one.fields) == ("the only setting", [3, 4], {})


def test_settings_are_named_by_what_differs(tmp_path):
  write_run(tmp_path / "a", config(DPO))
  write_run(tmp_path / "b", config(RejectionSampling, unfinished="drop"))
  write_run(tmp_path / "c", config(RRHF, unfinished="drop"))
  first, second, third = settings_of(tmp_path)
  assert first.name == "policy.loss=dpo, policy.unfinished=never_best"
  assert (second.label, third.label) == ("rjs, drop", "rrhf, drop")
  # The fields of a loss are in the table, though the loss alone tells the settings apart.
  assert first.fields["policy.dpo.beta"] == "0.1" and "policy.dpo.beta" not in second.fields


def test_a_branched_run_is_another_game_until_its_fields_are_its_own(tmp_path):
  for name in ("whole", "branched", "unchanged"):
    write_run(tmp_path / name, config())
  rate = "config.policy.training.learning_rate"
  known = {"run": "/runs/a", "round": 1, "code": "0" * 64, "commit": None, "before": None}
  changed = {rate: [9.0, config().policy.training.learning_rate]}
  write_json(tmp_path / "branched/branch.json", {**known, "changed": changed})
  (own, other) = settings_of(tmp_path / "whole", tmp_path / "branched")
  assert other.fields == {"branched.until_round_1.policy.training.learning_rate": "9.0"}
  assert own.fields == {} and own.name != other.name
  assert other.runs[0].branch.sentence.startswith("Branched from /runs/a after round 1, with ")
  write_json(tmp_path / "unchanged/branch.json", {**known, "changed": {}})
  with pytest.raises(ConfigError, match=r"seed 0"):  # the same game twice
    settings_of(tmp_path / "whole", tmp_path / "unchanged")


def test_with_many_fields_only_what_most_do_not_have_is_named(tmp_path):
  changes = [
    {},
    {"unfinished": "drop"},
    {"start": "base"},
    {"reference": "initial"},
    {"shapings": ()},
  ]
  for place, change in enumerate(changes[:4]):
    write_run(tmp_path / f"{place}", config(DPO, **change))
  write_run(tmp_path / "5", config(RejectionSampling))
  names = [setting.name for setting in settings_of(tmp_path)]
  assert names == [
    "as most are",
    "policy.unfinished=drop",
    "policy.start=base",
    "policy.reference=initial",
    "policy.loss=rjs",
  ]


def test_a_field_that_an_older_version_did_not_write_has_its_default(tmp_path):
  write_run(tmp_path / "new", config(seed=0))
  write_run(tmp_path / "old", config(seed=1))
  written = read_json(tmp_path / "old/config.json")
  del written["policy"]["unfinished"], written["sampling"]["gather_weights"]
  write_json(tmp_path / "old/config.json", written)
  assert len(settings_of(tmp_path)) == 1


def test_a_baseline_is_a_setting_or_one_of_its_runs(tmp_path):
  write_grid(tmp_path, seeds=1)
  settings = settings_of(tmp_path)
  assert find_baseline(settings, None).name == "policy.loss=dpo"
  for named in ("policy.loss = rjs", "rjs", "rjs-0", str(tmp_path / "rjs-0")):
    assert find_baseline(settings, named).name == "policy.loss=rjs"
  with pytest.raises(
    ConfigError, match=r"--baseline is 'ppo'; .*: policy\.loss=dpo; policy\.loss=rj"
  ):
    find_baseline(settings, "ppo")


def test_what_is_unfinished_or_damaged_is_left_out_of_a_folder_and_refused_by_name(tmp_path):
  write_run(tmp_path / "whole", config())
  write_run(tmp_path / "stopped", config(seed=1, rounds=2), num_rounds=1)
  for seed, name in enumerate(("broken", "short", "unjudged", "other_format"), start=2):
    write_run(tmp_path / name, config(seed=seed))
  place = "rounds/01/judgements.json"
  (tmp_path / "broken/rounds/01/evaluation.json").write_text('{"round": 1,\n')
  judgements = read_json(tmp_path / "short" / place)
  judgements["queries"]["testing_reward"].pop()
  write_json(tmp_path / "short" / place, judgements)
  (tmp_path / "unjudged" / place).unlink()
  written = read_json(tmp_path / "other_format/config.json")
  write_json(tmp_path / "other_format/config.json", {**written, "format": 1})
  said = {
    "stopped": "stopped has not finished round 2; its finished rounds: 0, 1",
    "broken": r"broken is damaged: .*evaluation\.json, line 2, is not valid JSON",
    "short": r"short is damaged: .*judgements\.json has not one testing_reward for each",
    "unjudged": r"unjudged is damaged: .*01 has no judgements\.json",
    "other_format": r"The config\.json of the run in .*other_format has format 1",
  }
  found = find_runs([tmp_path])
  assert [run.name for run in found.runs] == ["whole"] and len(found.left_out) == len(said)
  for name, sentence in said.items():
    with pytest.raises(ConfigError, match=sentence):
      find_runs([tmp_path / name])
  # Up to a round that it has finished, a run can be compared.
  assert len(find_runs([tmp_path / "stopped"], round=1).runs) == 1
  shutil.rmtree(tmp_path / "whole")
  with pytest.raises(ConfigError, match=r"No run is left to compare\. .*stopped has not finished"):
    find_runs([tmp_path])


def test_one_draw_is_not_two_and_data_must_be_the_same(tmp_path):
  write_run(tmp_path / "a", config())
  write_run(tmp_path / "twin", config())
  with pytest.raises(ConfigError, match=r"a and .*twin have the same config and both seed 0"):
    settings_of(tmp_path / "a", tmp_path / "twin")
  write_run(tmp_path / "b", config(RejectionSampling), data="other")
  with pytest.raises(ConfigError, match="have different data, though their configs name the same"):
    settings_of(tmp_path / "a", tmp_path / "b")


def test_runs_without_a_common_query(tmp_path):
  write_run(tmp_path / "a", config())
  write_run(tmp_path / "b", config(RejectionSampling))
  for round in (0, 1):
    path = tmp_path / f"b/rounds/{round:02d}/judgements.json"
    path.write_text(re.sub(r'"q(\d)', r'"other\1', path.read_text()))
    assert json.loads(path.read_text())["queries"]["ids"][0] == "other0"
  with pytest.raises(ConfigError, match="both of seed 0, have no test query in common"):
    compare([tmp_path / "a", tmp_path / "b"])
