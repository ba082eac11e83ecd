import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.logs.files import read_jsonl, write_jsonl
from apo_jax.logs.run_directory import GOLDEN_SAMPLES, POLICY_SAMPLES, SCORE, RunDirectory
from apo_jax.run.phase_inputs import PhaseName, phase_names
from apo_jax.run.records import find_damage, forget_record, record_last, record_phase
from apo_jax.run.repair import first_to_play, forget, refuse_damage
from tests import tiny

SAMPLED, SCORED = PhaseName(1, POLICY_SAMPLES), PhaseName(1, SCORE)


def wrote(directory, name, text, *others):
  """A phase is played, as the game does it."""
  forget_record(directory, name)
  for file in (*others, name.result):
    path = directory.round(name.round) / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  record_phase(directory, name)


@pytest.fixture
def scored(tmp_path):
  directory = RunDirectory(tmp_path)
  wrote(directory, SAMPLED, "samples")
  wrote(directory, SCORED, "scored samples", POLICY_SAMPLES)
  return directory


def test_what_a_later_phase_wrote_over_is_no_damage(scored):
  assert find_damage(scored, [SAMPLED, SCORED], None) == []


@pytest.mark.parametrize(
  ("change", "problem"),
  [
    (lambda path: path.write_text("scored sample5"), "has changed since"),
    (lambda path: path.unlink(), "is gone"),
  ],
)
def test_a_changed_or_missing_file_is_named_with_its_phase(scored, change, problem):
  path = scored.round(1) / POLICY_SAMPLES
  change(path)
  first = find_damage(scored, [SAMPLED, SCORED], None)[0]
  assert (first.phase, first.path, first.problem) == (SAMPLED, path, problem)
  assert len(find_damage(scored, [SAMPLED, SCORED], None)) == 1  # two phases wrote it
  with pytest.raises(ConfigError, match=rf"policy_samples.jsonl, which round 1 .* {problem}\."):
    refuse_damage([first])
  refuse_damage([])


def test_a_phase_under_way_may_write_over_what_earlier_ones_left(tmp_path):
  directory = RunDirectory(tmp_path)
  wrote(directory, SAMPLED, "samples")
  path = directory.round(1) / POLICY_SAMPLES
  forget_record(directory, SCORED)  # the scores' phase begins, writes, and is killed
  path.write_text("scored samples")
  assert find_damage(directory, [SAMPLED], SCORED) == []


def test_the_last_phase_may_have_been_killed_before_its_hashes(scored):
  place = scored.round(1)
  (place / "policy.json").write_text("{}")
  last = PhaseName(1, "policy.json")
  assert find_damage(scored, [SAMPLED, SCORED, last], None) == []
  record_last(scored, [SAMPLED, SCORED, last])
  (place / "policy.json").write_text("[]")
  assert len(find_damage(scored, [SAMPLED, SCORED, last], None)) == 1
  # Of an earlier one they must be there.
  (place / "checksums.json").write_text("{}")
  found = find_damage(scored, [SAMPLED, SCORED, last], None)
  assert {one.problem for one in found} == {"has no checksum"}
  (place / "checksums.json").write_text("{dam")
  assert "cannot be read" in find_damage(scored, [SAMPLED, SCORED, last], None)[0].problem


def test_damaged_hashes_are_taken_anew_by_what_is_played_again(scored):
  (scored.round(1) / "checksums.json").write_text("[1")
  forget_record(scored, SCORED)
  record_phase(scored, SAMPLED)
  record_last(scored, [SAMPLED, SCORED])
  assert find_damage(scored, [SAMPLED, SCORED], None) == []


def test_what_is_played_again_begins_where_all_that_is_read_can_be_had():
  config = tiny.config(rounds=3)
  listed = phase_names(config)
  policy = PhaseName(3, "policy.json")
  place = listed.index(policy)
  assert first_to_play(config, listed, [policy], lambda name: True) == place
  assert first_to_play(config, listed, [], lambda name: True) == len(listed)
  # The policy of round 2 is no longer kept, so round 2 trains it again, and for that reads the
  # policy of round 1, which is there.
  gone = {PhaseName(2, "policy.json")}
  again = first_to_play(config, listed, [policy], lambda name: name not in gone)
  assert listed[again] == PhaseName(2, "policy.json")
  gone |= {PhaseName(1, "policy.json"), PhaseName(1, "reward.json"), PhaseName(2, "reward.json")}
  again = first_to_play(config, listed, [policy], lambda name: name not in gone)
  assert listed[again] == PhaseName(1, "reward.json")


def test_phases_are_forgotten_with_the_players_behind_the_first(tmp_path):
  directory = RunDirectory(tmp_path)
  reward, policy = PhaseName(1, "reward.json"), PhaseName(1, "policy.json")
  for name in (reward, SAMPLED, policy):
    wrote(directory, name, "{}")
    if name.player:
      directory.checkpoints(name.player.name).mkdir(parents=True)
  forget(directory, [reward, SAMPLED, policy])
  assert not any((directory.round(1) / name.result).exists() for name in (reward, SAMPLED, policy))
  assert directory.checkpoints("01_reward").exists()  # its training may go on
  assert not directory.checkpoints("01_policy").exists()
  assert GOLDEN_SAMPLES not in [path.name for path in directory.round(1).iterdir()]


def trained(directory):
  """A training phase is played, whose lines stand between those of others."""
  name = PhaseName(1, "policy.json")
  rows = [
    {"time": 0.5, "round": round, "phase": phase, "step": step, "loss": 0.25}
    for round, phase, step in (
      (0, "policy", 1),
      (1, "policy", 1),
      (1, "score", 1),
      (1, "policy", 2),
    )
  ]
  write_jsonl(directory.metrics, rows)
  wrote(directory, name, "{}")
  return name


@pytest.mark.parametrize(
  ("change", "problem"),
  [
    (
      lambda text: text.replace(
        '1, "phase": "policy", "step": 2, "loss": 0.25',
        '1, "phase": "policy", "step": 2, "loss": 0.75',
      ),
      "has changed since",
    ),
    (lambda text: text.replace('"step": 2', '"step: 2'), "has changed since"),
    (lambda text: "", "has changed since"),
    (None, "is gone"),
  ],
)
def test_lines_of_a_finished_phase_that_have_changed_are_named(tmp_path, change, problem):
  directory = RunDirectory(tmp_path)
  name = trained(directory)
  assert find_damage(directory, [name], None) == []
  if change is None:
    directory.metrics.unlink()
  else:
    directory.metrics.write_text(change(directory.metrics.read_text()))
  (found,) = find_damage(directory, [name], None)
  assert (found.phase, found.path, found.problem) == (name, directory.metrics, problem)


def test_lines_of_others_are_not_a_phases(tmp_path):
  directory = RunDirectory(tmp_path)
  name = trained(directory)
  rows = read_jsonl(directory.metrics)
  write_jsonl(directory.metrics, [row for row in rows if row["phase"] == "policy" and row["round"]])
  assert find_damage(directory, [name], None) == []


def test_what_a_round_starts_from_is_held_against_its_hash(tmp_path):
  directory = RunDirectory(tmp_path)
  place = directory.round(1) / "provenance.json"
  place.parent.mkdir(parents=True)
  place.write_text('{"seed": 0}')
  wrote(directory, SAMPLED, "samples")
  place.write_text('{"seed": 1}')
  wrote(directory, SCORED, "scored samples", POLICY_SAMPLES)  # must not take the changed one for it
  (found,) = find_damage(directory, [SAMPLED, SCORED], None)
  assert (found.phase, found.path) == (SAMPLED, place)
