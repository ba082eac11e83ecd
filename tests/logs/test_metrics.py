import importlib
import sys
import types

import numpy as np
import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.logs import metric_lines
from apo_jax.logs.files import read_jsonl
from apo_jax.logs.metrics import MetricsWriter, read_metrics


def open_writer(run_dir, **options):
  defaults = {
    "tensorboard": False,
    "wandb": False,
    "wandb_project": "project",
    "config": {"seed": 0},
    "enabled": True,
  }
  return MetricsWriter(run_dir, **{**defaults, **options})


def places(run_dir):
  return [(line["round"], line["phase"], line["step"]) for line in read_metrics(run_dir)]


def test_a_line_holds_the_place_and_the_values(tmp_path):
  with open_writer(tmp_path) as writer:
    writer.write({"loss": np.float32(0.5), "count": 3}, round=1, phase="reward", step=12)
    # Written through at once: a kill after this loses nothing.
    (line,) = read_jsonl(tmp_path / "metrics.jsonl")
  assert line.pop("time") > 1e9
  assert line == {"round": 1, "phase": "reward", "step": 12, "loss": 0.5, "count": 3.0}


def test_values_that_are_not_finite_become_null(tmp_path):
  with open_writer(tmp_path) as writer:
    writer.write({"loss": float("nan")}, round=1, phase="reward", step=1)
  assert read_metrics(tmp_path)[0]["loss"] is None


def test_a_metric_may_not_take_the_name_of_a_field(tmp_path):
  with open_writer(tmp_path) as writer, pytest.raises(ValueError, match="'step'"):
    writer.write({"step": 1.0}, round=1, phase="reward", step=1)


def test_a_torn_last_line_is_dropped_on_open(tmp_path):
  with open_writer(tmp_path) as writer:
    writer.write({"loss": 1.0}, round=1, phase="reward", step=1)
  with open(tmp_path / "metrics.jsonl", "a") as file:
    file.write('{"time": 1.0, "round": 1, "ph')
  assert places(tmp_path) == [(1, "reward", 1)]
  with open_writer(tmp_path) as writer:
    writer.write({"loss": 1.0}, round=1, phase="reward", step=2)
  assert places(tmp_path) == [(1, "reward", 1), (1, "reward", 2)]


@pytest.mark.parametrize(
  "broken",
  [
    b"\0" * 4096,
    b"\0\0\n",
    b'{"time": 1.0, "rou\n',
    b"[1]\n",
    b'{"loss": 1.0}\n\xff\n',
    b'{"time": 1.0, "round": [], "phase": "p", "step": 1}\n',
  ],
)
def test_broken_lines_are_dropped_wherever_they_are_and_counted(tmp_path, broken):
  path = tmp_path / "metrics.jsonl"
  with open_writer(tmp_path) as writer:
    for step in (1, 2):
      writer.write({"loss": 1.0}, round=1, phase="reward", step=step)
  first, second = path.read_bytes().splitlines(keepends=True)
  path.write_bytes(first + broken + (second if broken.endswith(b"\n") else b""))
  with open_writer(tmp_path) as writer:
    assert writer.mended == broken.count(b"\n")
    writer.write({"loss": 1.0}, round=1, phase="reward", step=3)
  kept = [1, 2, 3] if broken.endswith(b"\n") else [1, 3]
  assert places(tmp_path) == [(1, "reward", step) for step in kept]


def test_lines_are_on_the_disk_before_a_checkpoint_says_so(tmp_path, monkeypatch):
  synced = []
  monkeypatch.setattr(metric_lines.os, "fsync", synced.append)
  with open_writer(tmp_path) as writer:
    writer.write({"loss": 1.0}, round=1, phase="reward", step=1)
    assert not synced
    writer.sync()
  assert len(synced) == 1


def test_resume_takes_back_the_later_steps_of_its_phase_only(tmp_path):
  with open_writer(tmp_path) as writer:
    for round, phase in ((1, "reward"), (1, "policy"), (2, "reward")):
      for step in (1, 2, 3):
        writer.write({"loss": 1.0}, round=round, phase=phase, step=step)
  with open_writer(tmp_path) as writer:
    writer.resume(round=2, phase="reward", step=1)
    writer.write({"loss": 2.0}, round=2, phase="reward", step=2)
  assert places(tmp_path) == [
    *[(1, "reward", step) for step in (1, 2, 3)],
    *[(1, "policy", step) for step in (1, 2, 3)],
    (2, "reward", 1),
    (2, "reward", 2),
  ]
  assert read_metrics(tmp_path)[-1]["loss"] == 2.0


def test_resume_of_a_new_phase_changes_nothing(tmp_path):
  with open_writer(tmp_path) as writer:
    writer.write({"loss": 1.0}, round=1, phase="reward", step=1)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    writer.resume(round=1, phase="policy", step=0)
  assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_disabled_writer_writes_and_imports_nothing(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorboardX", None)
  monkeypatch.setitem(sys.modules, "wandb", None)
  with open_writer(tmp_path / "run", tensorboard=True, wandb=True, enabled=False) as writer:
    writer.write({"loss": 1.0}, round=1, phase="reward", step=1)
    writer.resume(round=1, phase="reward", step=0)
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("extra", "module"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_a_missing_package_is_named_with_the_command(tmp_path, monkeypatch, extra, module):
  def import_module(name):
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)

  monkeypatch.setattr(importlib, "import_module", import_module)
  with pytest.raises(ConfigError) as error:
    open_writer(tmp_path, **{extra: True})
  assert f"pip install 'apo_jax[{extra}]'" in str(error.value)
  assert module in str(error.value)


class FakeSummaryWriter:
  made = ()

  def __init__(self, logdir, purge_step, filename_suffix):
    self.logdir, self.purge_step, self.suffix = logdir, purge_step, filename_suffix
    self.scalars = []
    self.closed = False
    FakeSummaryWriter.made += (self,)

  def add_scalar(self, name, value, global_step):
    self.scalars.append((name, value, global_step))

  def close(self):
    self.closed = True


@pytest.fixture
def summary_writers(monkeypatch):
  monkeypatch.setattr(FakeSummaryWriter, "made", ())
  module = types.ModuleType("tensorboardX")
  module.SummaryWriter = FakeSummaryWriter
  monkeypatch.setitem(sys.modules, "tensorboardX", module)
  return FakeSummaryWriter


def test_the_tensorboard_step_is_the_number_of_updates(tmp_path, summary_writers):
  with open_writer(tmp_path, tensorboard=True) as writer:
    writer.write({"loss": 1.0}, round=1, phase="reward", step=10)
    writer.write({"loss": 1.5}, round=1, phase="reward", step=15)
    writer.write({"mean": 0.5}, round=1, phase="score", step=1)
    writer.write({"loss": 2.0}, round=1, phase="policy", step=10)
  with open_writer(tmp_path, tensorboard=True) as writer:
    writer.write({"loss": 3.0}, round=1, phase="policy", step=20)
    writer.write({"kl": 4.0}, round=1, phase="evaluation", step=1)
    writer.write({"loss": 5.0}, round=2, phase="reward", step=10)
  first, second = summary_writers.made
  assert first.logdir == str(tmp_path / "tensorboard")
  assert first.scalars == [
    ("reward/loss", 1.0, 10),
    ("reward/loss", 1.5, 15),
    ("score/mean", 0.5, 15),
    ("policy/loss", 2.0, 25),
  ]
  assert second.scalars == [
    ("policy/loss", 3.0, 35),
    ("evaluation/kl", 4.0, 35),
    ("reward/loss", 5.0, 45),
  ]
  # From behind the last update that was kept.
  assert (first.purge_step, second.purge_step) == (0, 26)
  assert first.closed and second.closed


def test_a_resumed_phase_writes_its_tensorboard_steps_again(tmp_path, summary_writers):
  with open_writer(tmp_path, tensorboard=True) as writer:
    for step in (1, 2, 3):
      writer.write({"loss": 1.0}, round=1, phase="reward", step=step)
    writer.resume(round=1, phase="reward", step=1)
    writer.write({"loss": 5.0}, round=1, phase="reward", step=2)
  first, second = summary_writers.made
  assert first.closed
  assert second.purge_step == 2
  assert second.scalars == [("reward/loss", 5.0, 2)]
  assert first.suffix != second.suffix


def test_a_measurement_made_again_hides_no_update(tmp_path, summary_writers):
  with open_writer(tmp_path, tensorboard=True) as writer:
    writer.write({"loss": 1.0}, round=1, phase="policy", step=3)
    writer.write({"kl": 2.0}, round=1, phase="evaluation", step=1)
  with open_writer(tmp_path, tensorboard=True) as writer:
    writer.resume(round=1, phase="evaluation", step=0)
    writer.write({"kl": 2.0}, round=1, phase="evaluation", step=1)
  _, second = summary_writers.made
  assert (second.purge_step, second.scalars) == (4, [("evaluation/kl", 2.0, 3)])


def test_real_tensorboard_files(tmp_path):
  pytest.importorskip("tensorboardX")
  with open_writer(tmp_path, tensorboard=True) as writer:
    writer.write({"loss": 1.0}, round=1, phase="reward", step=1)
  (file,) = (tmp_path / "tensorboard").iterdir()
  assert b"reward/loss" in file.read_bytes()


class FakeWandbRun:
  def __init__(self):
    self.logged, self.defined, self.exit_code = [], [], None

  def log(self, values):
    self.logged.append(values)

  def define_metric(self, name, step_metric=None):
    self.defined.append((name, step_metric))

  def finish(self, exit_code):
    self.exit_code = exit_code


def test_wandb_continues_the_same_run(tmp_path, monkeypatch):
  starts = []

  def init(**options):
    starts.append((options, FakeWandbRun()))
    return starts[-1][1]

  module = types.ModuleType("wandb")
  module.init = init
  monkeypatch.setitem(sys.modules, "wandb", module)
  for step in (1, 2):
    with open_writer(tmp_path, wandb=True) as writer:
      writer.write({"loss": 0.25}, round=1, phase="reward", step=step)
  (first, first_run), (second, second_run) = starts
  assert first["project"] == "project"
  assert first["config"] == {"seed": 0}
  assert first["resume"] == "allow"
  assert first["id"] and first["id"] == second["id"]
  assert first_run.logged == [{"updates": 1, "round": 1, "step": 1, "reward/loss": 0.25}]
  assert second_run.logged == [{"updates": 2, "round": 1, "step": 2, "reward/loss": 0.25}]
  assert ("*", "updates") in first_run.defined
  assert first_run.exit_code == second_run.exit_code == 0
  with pytest.raises(KeyError), open_writer(tmp_path, wandb=True):
    raise KeyError
  assert starts[-1][1].exit_code == 1  # Weights & Biases shows that this one failed


def test_what_is_new_reads_nothing_of_what_was_before(tmp_path, monkeypatch):
  """A round must not take longer for the rounds before it."""
  with open_writer(tmp_path) as writer:
    writer.write({"loss": 1.0}, round=1, phase="reward", step=1)
  with open_writer(tmp_path) as writer:
    with monkeypatch.context() as patch:
      patch.setattr(metric_lines, "read_metrics", None)
      for round in (2, 3):
        writer.resume(round=round, phase="reward", step=0)
        writer.write({"loss": 0.1 * round}, round=round, phase="reward", step=1)
        assert [line["loss"] for line in writer.of_round(round)] == [0.1 * round]
    # One that was played before is read, also where its lines are written again.
    assert writer.of_round(1) == read_metrics(tmp_path)[:1]
    writer.resume(round=2, phase="reward", step=0)
    assert writer.of_round(2) == []
    writer.write({"loss": 5.0}, round=2, phase="reward", step=1)
    assert writer.of_round(2) == read_metrics(tmp_path)[-1:]
  assert places(tmp_path) == [(1, "reward", 1), (3, "reward", 1), (2, "reward", 1)]
