"""A new run from a finished round: what it has, what is refused, and what it is held to."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from apo_jax.branch import branching
from apo_jax.branch.branching import branch
from apo_jax.config import command_line
from apo_jax.config.fields import ConfigError
from apo_jax.logs.files import file_sha256, read_json, write_bytes, write_jsonl
from apo_jax.logs.metrics import read_metrics
from apo_jax.logs.places import find_place
from apo_jax.logs.run_directory import POLICY_SAMPLES, RunDirectory
from apo_jax.run.branched import (
  Branch,
  check_taken_over,
  read_branch,
  refuse_sharing,
  to_json,
)
from apo_jax.run.config_file import get_config
from apo_jax.run.opening import read_run_config
from apo_jax.run.phase_inputs import PhaseName, phase_names
from apo_jax.run.records import find_damage, record_phase
from tests import tiny
from tests.branch import written

LOWER = {"policy__training__learning_rate": 1e-7}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> RunDirectory:
  """A finished run of one round."""
  run_dir = tmp_path_factory.mktemp("source") / "run"
  written.make(run_dir)
  return RunDirectory(run_dir)


def copied(source: RunDirectory, tmp_path: Path) -> RunDirectory:
  return RunDirectory(Path(shutil.copytree(source.path, tmp_path / "copied")))


def hashes(directory: Path) -> dict[str, str]:
  found = (path for path in directory.rglob("*") if path.is_file())
  return {str(path.relative_to(directory)): file_sha256(path) for path in found}


def test_a_branch_has_the_finished_rounds_and_says_where_from(source, tmp_path):
  before, target = hashes(source.path), RunDirectory(tmp_path / "deep" / "new")
  made = branch(source, tiny.config(rounds=3, **LOWER), 1, target)
  assert hashes(source.path) == before
  assert [path.name for path in target.path.parent.iterdir()] == ["new"]  # nothing temporary
  old = tiny.config().policy.training.learning_rate
  assert made.changed == {
    "config.rounds": (1, 3),
    "config.policy.training.learning_rate": (old, 1e-7),
  }
  assert (made.run, made.round, made.before) == (str(source.path), 1, None)
  assert read_branch(target) == made and len(made.code) == 64
  config = read_run_config(target)
  assert config == tiny.config(rounds=3, **LOWER)
  ours = hashes(target.path)
  same = ours.keys() - {"branch.json", "config.json", "metrics.jsonl"}
  assert same == before.keys() - {"config.json", "metrics.jsonl"}
  assert all(ours[name] == before[name] for name in same)
  assert [line["round"] for line in read_metrics(target.path)] == [0, 1]
  listed = phase_names(tiny.config(rounds=1))
  assert find_damage(target, listed, None) == []
  # A run stands alone: no file is another's.
  assert {path.stat().st_nlink for path in target.path.rglob("*") if path.is_file()} == {1}


@pytest.mark.slow  # hundreds of small files
def test_a_run_in_a_bucket_is_branched_here(source, tmp_path, monkeypatch):
  bucket = pytest.importorskip("tests.bucket", reason="needs gcsfs and gcp-storage-emulator")
  with bucket.served() as served:
    for name, value in served.environment().items():
      monkeypatch.setenv(name, value)
    there = RunDirectory(find_place(f"gs://{bucket.NAME}/runs/source", "--run"))
    for path in source.path.rglob("*"):
      if path.is_file():
        write_bytes(there.path / path.relative_to(source.path), path.read_bytes())
    target = RunDirectory(tmp_path / "new")
    made = branch(there, tiny.config(rounds=3, **LOWER), 1, target)
    assert made.run == str(there.path)
    before, ours = hashes(source.path), hashes(target.path)
    assert ours.keys() - {"branch.json"} == before.keys()
    assert {name for name in before if ours[name] != before[name]} == {
      "config.json",  # rounds, the learning rate
      "metrics.jsonl",  # without a line of round 2
    }
    (there.round(1) / "score.json").unlink()
    assert "has no score.json of round 1" in refused(there, tmp_path, rounds=3)


def test_an_earlier_round_leaves_the_later_ones(source, tmp_path):
  target = RunDirectory(tmp_path / "new")
  branch(source, tiny.config(rounds=1, reward__mode="fixed"), 0, target)
  assert not target.round(1).exists()
  players = {path.name for path in (target.path / "checkpoints").iterdir()}
  assert players == {"00_supervised", "00_reward_base", "00_testing_reward"}
  assert [line["round"] for line in read_metrics(target.path)] == [0]


def test_a_branch_of_a_branch_remembers_both(source, tmp_path):
  first, second = RunDirectory(tmp_path / "first"), RunDirectory(tmp_path / "second")
  branch(source, tiny.config(**LOWER), 1, first)
  made = branch(first, tiny.config(policy__dpo__beta=0.4, **LOWER), 1, second)
  assert made.before == read_branch(first)
  assert str(source.path) in made.sentence and str(first.path) in made.sentence


def refused(source: RunDirectory, tmp_path: Path, round: int = 1, **overrides: object) -> str:
  """What is said; nothing is left of the new run."""
  there = {path.name for path in tmp_path.iterdir()}
  with pytest.raises(ConfigError) as error:
    branch(source, tiny.config(**overrides), round, RunDirectory(tmp_path / "new"))
  assert {path.name for path in tmp_path.iterdir()} == there
  return str(error.value)


def test_what_cannot_be_branched_is_one_sentence(source, tmp_path):
  assert "--from is 4, which is no finished round" in refused(source, tmp_path, 4)
  assert "finished are those of 0 to 1" in refused(source, tmp_path, -1)
  said = refused(source, tmp_path, rounds=1)
  assert "config.rounds is 1" in said and "--config.rounds=2 or more" in said
  said = refused(source, tmp_path, reward__mode="preferences_only")
  assert "is 'preferences_only', but rounds 1 to 1 were played with 'adversarial'" in said
  said = refused(source, tmp_path, policy__loss="spin")
  assert "policy.loss is 'spin', but rounds 1 to 1 were played with" in said
  said = refused(source, tmp_path, policy__loss="infonca", policy__shapings=("par",))
  assert "policy.shapings is ['par'], but in the run to branch from it is []" in said
  assert "config.seed is 3" in refused(source, tmp_path, seed=3)
  nothing = RunDirectory(tmp_path)
  assert f"--run is {str(tmp_path)!r}, which holds no config.json" in refused(nothing, tmp_path)
  with pytest.raises(ConfigError, match=r"--run_dir is .*, which is there already"):
    branch(source, tiny.config(), 1, source)
  with pytest.raises(
    ConfigError, match=r"--run_dir is 'gs:/bucket/run'; it must be a path.* made there"
  ):
    branch(source, tiny.config(), 1, RunDirectory(Path("gs://bucket/run")))


def test_samples_that_a_later_round_cannot_learn_from_again(tmp_path):
  directory = RunDirectory(tmp_path / "source")
  written.make(directory.path, reward__mode="fixed")
  rows = [{"samples": [{"tokens": [1, 2, 3]}, {"tokens": []}]}, {"samples": [{"tokens": [4]}]}]
  write_jsonl(directory.round(1) / POLICY_SAMPLES, rows)
  record_phase(directory, PhaseName(1, POLICY_SAMPLES))

  def said(**overrides):
    overrides = {"reward__mode": "fixed", "rounds": 3, **overrides}
    return refused(directory, tmp_path, **overrides)

  sampler = "sampling__training__"
  found = said(policy__loss="spin", policy__replay=(0.5,))
  assert "policy.replay=(0.5,) takes answers of round 1, but 'spin' learns from" in found
  assert "queries of data.golden" in found
  few = {f"{sampler}num_samples": 1, "policy__loss": "rjs"}
  found = said(policy__replay=(0.0, 0.5), **few)
  assert "training.num_samples is 1, but config.policy.replay=(0.0, 0.5)" in found
  found = said(policy__replay=(0.5,), **{f"{sampler}max_new_tokens": 2})
  assert "training.max_new_tokens is 2, but" in found and "need 3" in found
  # Nothing is read again of a round that is not taken over, or without replay.
  for number, (round, replay) in enumerate(((0, (0.5,)), (1, ()))):
    config = tiny.config(reward__mode="fixed", rounds=3, policy__replay=replay, **few)
    branch(directory, config, round, RunDirectory(tmp_path / f"made_{number}"))


def test_a_damaged_run_is_not_branched(source, tmp_path):
  for number, damage in enumerate((_change_result, _lose_samples, _flip_a_bit, _change_tokenizer)):
    place = tmp_path / str(number)
    place.mkdir()
    run = copied(source, place)
    named = damage(run)
    said = refused(run, place)
    assert named in said and str(place / "copied") in said, said


def _change_result(run: RunDirectory) -> str:
  (run.round(1) / "score.json").write_text('{"of": "another"}')
  return "score.json, which round 1 score wrote, has changed since. Start that run with --repair"


def _lose_samples(run: RunDirectory) -> str:
  (run.round(0) / "test_samples.jsonl").unlink()
  return "test_samples.jsonl, which round 0 evaluation wrote, is gone"


def _flip_a_bit(run: RunDirectory) -> str:
  data = max(
    (path for path in run.checkpoints("01_policy").rglob("d/*") if path.is_file()),
    key=lambda path: path.stat().st_size,
  )
  content = bytearray(data.read_bytes())
  content[len(content) // 2] ^= 1
  data.write_bytes(content)
  return "checkpoints/01_policy/0 "


def _change_tokenizer(run: RunDirectory) -> str:
  (run.tokenizer / "tokenizer_config.json").write_text("{}")
  return "tokenizer_config.json has changed since"


def test_where_players_are_gone_the_rounds_that_have_them_are_named(source, tmp_path):
  run = copied(source, tmp_path)
  shutil.rmtree(run.checkpoints("01_policy"))
  said = refused(run, tmp_path)
  assert "--from is 1, whose policy is no longer kept" in said
  assert said.endswith("round 0 can be branched from.")
  # What nobody reads any more is not needed.
  config = tiny.config(policy__start="base", reward__mode="fixed")
  with pytest.raises(ConfigError, match=r"reward\.mode"):
    branch(run, config, 1, RunDirectory(tmp_path / "new"))


def test_a_copy_that_fails_leaves_nothing_behind(source, tmp_path, monkeypatch):
  def full(source, target):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

  monkeypatch.setattr("apo_jax.branch.copying._copy", full)
  said = refused(source, tmp_path)
  assert "could not be copied to --run_dir" in said and "No space left" in said


def test_what_is_half_made_is_no_run(source, tmp_path, monkeypatch):
  seen = []

  def killed(source, made, *rest):
    seen.append((made.rounds.is_dir(), made.config.exists()))
    raise KeyboardInterrupt

  monkeypatch.setattr(branching, "_check_copy", killed)
  with pytest.raises(KeyboardInterrupt):
    branch(source, tiny.config(), 1, RunDirectory(tmp_path / "new"))
  assert seen == [(True, False)] and not list(tmp_path.iterdir())


def chain(*links: tuple[int, dict]) -> Branch:
  """Branches by round and changes, the newest first."""
  made = None
  for round, changed in reversed(links):
    fields = {f"config.{name}": values for name, values in changed.items()}
    made = Branch("/runs/other", round, fields, "0" * 64, None, made)
  return made


def test_what_was_played_with_other_fields():
  rate, beta = "policy.training.learning_rate", "policy.dpo.beta"
  assert chain((1, {})).played == {} == chain((1, {"rounds": (2, 5)})).played
  assert chain((1, {rate: (2.0, 1.0)})).played == {"until_round_1": {rate: 2.0}}
  two = chain((3, {rate: (2.0, 1.0)}), (1, {beta: (0.1, 0.2)}))
  assert two.played == {"until_round_3": {rate: 2.0}, "until_round_1": {rate: 2.0, beta: 0.1}}
  # Tried in vain, and taken back from the same round: the very game that was begun.
  assert chain((1, {rate: (9.0, 2.0)}), (1, {rate: (2.0, 9.0)})).played == {}
  early = chain((1, {rate: (9.0, 1.0)}), (4, {rate: (2.0, 9.0)}))
  assert early.played == {"until_round_1": {rate: 2.0}}


def test_rounds_taken_over_are_neither_played_again_nor_shared(tmp_path):
  directory, config = RunDirectory(tmp_path), tiny.config()
  late, early = PhaseName(2, "policy.json"), PhaseName(1, "policy.json")
  check_taken_over(directory, config, [late, early])  # a run that began by itself
  refuse_sharing(directory)
  tmp_path.joinpath("branch.json").write_text(
    json.dumps(to_json(chain((1, {"policy.loss": ("dpo", "rjs")}))))
  )
  check_taken_over(directory, config, [late])
  with pytest.raises(ConfigError, match=r"round 1 policy left in .* from /runs/other, which"):
    check_taken_over(directory, config, [late, early])
  with pytest.raises(ConfigError, match=r"--share is given, but the run in .* was branched"):
    refuse_sharing(directory)


@pytest.mark.parametrize("content", ["{", "[]", '{"run": "x"}', '{"changed": 3}'])
def test_a_damaged_origin_is_named(tmp_path, content):
  (tmp_path / "branch.json").write_text(content)
  with pytest.raises(ConfigError, match=r"branch.json, which says what .*, is damaged"):
    read_branch(RunDirectory(tmp_path))


def test_a_run_is_its_own_config_file(source):
  given = ["main", "--config.rounds=4", f"--run_dir={source}"]
  program, config, *rest = command_line.with_config_of_run(given, "run_dir")
  assert [program, *rest] == given
  path, _, argument = config.partition(":")
  assert path.endswith("apo_jax/run/config_file.py") and argument == f"--run_dir={source}"
  assert get_config(argument).to_dict()["rounds"] == read_json(source.config)["rounds"] == 1
  for other in (["main"], [*given, "--config=a.py"], ["main", "--", f"--run_dir={source}"]):
    assert command_line.with_config_of_run(other, "run_dir") == other
  assert command_line.value_of(["--run", "a", "-run=b", "--run_dir=c"], "run") == "b"
  with pytest.raises(ConfigError, match=r"--run_dir is '/nowhere', which holds no config.json"):
    get_config("--run_dir=/nowhere")
