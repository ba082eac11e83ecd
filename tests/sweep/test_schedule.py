"""The order of a sweep's runs, with processes that only write the results of phases."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from apo_jax.config.fields import ConfigError
from apo_jax.logs.files import write_json
from apo_jax.logs.locks import Lock
from apo_jax.sweep import placement, schedule
from apo_jax.sweep.placement import Place, places
from apo_jax.sweep.process import try_lock_run
from apo_jax.sweep.runs import Planned
from apo_jax.sweep.schedule import Schedule, last_sentence
from apo_jax.sweep.table import Display, duration
from tests import tiny


class Player:
  """A process that finishes a phase, or fails, each time that it is asked how it is."""

  order: list[str]
  fails: set[str]

  def __init__(self, run: Planned, place: Place, lock: Lock):
    self.started = 0.0
    self._run, self._lock = run, lock
    self.order.append(run.name)

  @property
  def code(self) -> int | None:
    left = self._run.left()
    if self._run.name in self.fails:
      self._run.log.write_text("round 1\napo_jax: it failed, and says so.\n\n")
      return self._end(2)
    if left:
      content = {"testing_reward": 0.5, "standard_errors": {"testing_reward": 0.1}}
      write_json(self._run.directory.round(left[0].round) / left[0].result, content)
      self.played.append((self._run.name, self._run.recipes[left[0]]))
      return None
    self._run.directory.report.write_text("")
    return self._end(0)

  def send(self, number: int) -> None:
    raise AssertionError("all have ended")

  def _end(self, code: int) -> int:
    self._lock.close()
    return code


@pytest.fixture
def player(monkeypatch) -> type[Player]:
  made = type("Made", (Player,), {"order": [], "played": [], "fails": set()})
  monkeypatch.setattr(schedule, "RunProcess", made)
  monkeypatch.setattr(schedule, "_SECONDS_BETWEEN_LOOKS", 0)
  monkeypatch.setattr(schedule.process, "end", lambda processes, grace: None)
  return made


def planned(folder: Path) -> list[Planned]:
  return [
    Planned(f"{seed} {loss}", folder / f"{seed} {loss}", config, ())
    for seed in (0, 1)
    for loss in ("rjs", "dpo")
    for config in [tiny.config(seed=seed, policy__loss=loss, rounds=1)]
  ]


def play(runs: list[Planned], folder: Path, jobs: int = 2) -> tuple[Schedule, list]:
  shown = []
  made = Schedule(runs, [Place()] * jobs, folder)
  made.play(shown.append, lambda: False)
  return made, shown


def test_a_run_starts_when_what_it_shares_is_there(player, tmp_path):
  runs = planned(tmp_path)
  made, shown = play(runs, tmp_path, jobs=3)
  assert not made.failed and {row.state for row in shown[-1]} == {"done"}
  # The other seed first; then those whose common phases have been played.
  assert player.order[:2] == ["0 rjs", "1 rjs"]
  for seed in (0, 1):
    mine = [recipe for name, recipe in player.played if name == f"{seed} rjs"]
    theirs = [recipe for name, recipe in player.played if name == f"{seed} dpo"]
    common = set(mine) & set(theirs)
    assert len(common) == 7
    firsts = [player.played.index((f"{seed} dpo", recipe)) for recipe in theirs]
    lasts = [player.played.index((f"{seed} rjs", recipe)) for recipe in common]
    assert min(firsts) > max(lasts)
  # It did not wait for more than these: they were played side by side.
  states = [[row.state for row in rows][:2] for rows in shown]
  assert ["playing", "playing"] in states
  # The same again finds nothing to do.
  player.order.clear()
  play(runs, tmp_path)
  assert not player.order


def test_a_run_that_fails_keeps_no_other_from_its_phases(player, tmp_path):
  player.fails.add("0 rjs")
  made, shown = play(planned(tmp_path), tmp_path, jobs=1)
  assert made.failed == {"0 rjs": "it failed, and says so."}
  assert player.order == ["0 rjs", "0 dpo", "1 rjs", "1 dpo"]
  assert [row.state for row in shown[-1]] == ["failed:", "done", "done", "done"]


def test_a_run_that_an_earlier_sweep_left_playing_is_not_played_twice(player, tmp_path):
  runs = planned(tmp_path)
  lock = try_lock_run(runs[0])
  shown = []

  def show(rows):
    shown.append(rows)
    if len(shown) == 30:
      lock.close()

  Schedule(runs, [Place()], tmp_path).play(show, lambda: False)
  assert shown[0][0].state == "played by an earlier start:"
  # What may share a phase with it waits for it too.
  assert player.order[:2] == ["1 rjs", "1 dpo"] and set(player.order[2:]) == {"0 rjs", "0 dpo"}


def test_what_a_run_said_last(tmp_path):
  (tmp_path / "log.txt").write_text("one\napo_jax: a field is wrong.\n")
  assert last_sentence(tmp_path / "log.txt", 2) == "a field is wrong."
  assert "SIGKILL" in last_sentence(tmp_path / "log.txt", -9)


def test_lines_where_there_is_no_terminal(player, tmp_path):
  stream = io.StringIO()
  with Display(Console(file=stream, width=200, markup=False)) as display:
    made = Schedule(planned(tmp_path)[:2], [Place()], tmp_path)
    made.play(display.show, lambda: False)
    display.last(made.rows())
  lines = stream.getvalue().splitlines()
  assert any(
    line.startswith("0 rjs: playing round 1 golden samples, round 0 of 1 judged") for line in lines
  )
  assert any(line.startswith("0 dpo: done, round 1 of 1 judged: testing") for line in lines)
  (row,) = [line for line in lines if line.split()[:3] == ["0", "dpo", "done"]]
  assert "1/1" in row and "0.500 ±0.100" in row


def test_places_are_equal_and_enough(monkeypatch):
  monkeypatch.setattr(placement, "usable_cores", lambda: [0, 1, 4, 5, 6])
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  assert [place.cores for place in places(2)] == [(0, 1), (4, 5)]
  assert places(1) == [Place()]
  with pytest.raises(ConfigError, match="--jobs is 6; it must be at most 5, the cores there are"):
    places(6)
  monkeypatch.setenv("JAX_PLATFORMS", "cuda")
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
  visible = [place.environment["CUDA_VISIBLE_DEVICES"] for place in places(2)]
  assert visible == ["2", "3"]
  with pytest.raises(ConfigError, match="the GPUs there are"):
    places(3)


def test_durations_are_hours_minutes_and_seconds():
  assert duration(3725.4) == "1:02:05"
