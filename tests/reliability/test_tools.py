"""The tools of this folder in a short form; each command's own form is in docs/reliability.md."""

import shutil

import pytest

from apo_jax.logs.files import read_json, read_jsonl, write_json, write_jsonl
from tests import whole_run
from tests.reliability import flip, full_disk, kill, same, two_owners


@pytest.mark.slow
def test_games_that_are_killed_end_as_one_that_is_not():
  assert kill.main(["--kills=3"]) == 0


@pytest.mark.slow
def test_games_that_are_asked_to_end_end_as_one_that_is_not():
  assert kill.main(["--kills=3", "--signal=TERM", "--seed=1"]) == 0


@pytest.mark.slow
def test_damaged_files_are_refused_or_made_again():
  assert flip.main(["--tries=6"]) == 0


@pytest.mark.slow
def test_full_disks_lose_nothing(capsys):
  assert full_disk.main(["--tries=2"]) == 0
  if "No disk was tried" in capsys.readouterr().out:
    pytest.skip("a tmpfs cannot be mounted here")


@pytest.mark.slow
def test_one_of_several_starts_plays():
  assert two_owners.main(["--games=2", "--starts=2"]) == 0


@pytest.mark.slow
def test_the_comparison_sees_what_differs(tmp_path):
  """The tools are worth what this is: it must not call runs equal that are not."""
  whole, other = whole_run.played(), tmp_path / "other"
  shutil.copytree(whole, other)
  assert same.differences(whole, other) == []
  rows = read_jsonl(other / "metrics.jsonl")
  write_jsonl(
    other / "metrics.jsonl", [{**rows[0], "loss": rows[0]["loss"] * (1 + 1e-15)}, *rows[1:]]
  )
  row, hashed = same.differences(whole, other)
  assert row == "metrics.jsonl, line 1, differs" and "has changed since" in hashed
  write_jsonl(other / "metrics.jsonl", [{**row, "time": 0.0} for row in rows])
  # Times are no difference, though they are part of what the hashes are of.
  assert all("has changed since" in line for line in same.differences(whole, other))
  shutil.copy(whole / "metrics.jsonl", other / "metrics.jsonl")
  (other / "rounds/01/.left.tmp").write_text("")
  assert same.differences(whole, other) == ["rounds/01/.left.tmp is left over"]
  (other / "rounds/01/.left.tmp").unlink()
  player = "checkpoints/01_policy"
  shutil.rmtree(other / player)
  shutil.copytree(other / "checkpoints/00_supervised", other / player)
  found = same.differences(whole, other)
  assert found and all(player in line or "01_policy" in line for line in found)
  evaluation = read_json(other / "rounds/01/evaluation.json")
  write_json(other / "rounds/01/evaluation.json", {**evaluation, "true_utility": -0.0})
  assert "rounds/01/evaluation.json differs" in same.differences(whole, other)
