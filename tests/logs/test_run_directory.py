"""The one table of a run directory's files."""

from pathlib import Path

from apo_jax.logs.run_directory import EVALUATION, RunDirectory


def test_where_everything_lies():
  run = RunDirectory(Path("runs/demo"))
  assert str(run) == "runs/demo"
  names = {
    "config": "config.json",
    "data": "data.json",
    "origins": "origins.json",
    "preview": "preview.txt",
    "metrics": "metrics.jsonl",
    "tensorboard": "tensorboard",
    "wandb_id": "wandb_id.txt",
    "report": "report.html",
    "compilation_cache": "compilation_cache",
    "tokenizer": "tokenizer",
    "tokenizer_finished": "tokenizer/finished",
    "rounds": "rounds",
  }
  assert {name: getattr(run, name) for name in names} == {
    name: Path("runs/demo") / path for name, path in names.items()
  }
  assert run.round(0) / EVALUATION == Path("runs/demo/rounds/00/evaluation.json")
  assert run.round(12) == Path("runs/demo/rounds/12")
  assert run.checkpoints("01_policy") == Path("runs/demo/checkpoints/01_policy")


def test_looking_makes_nothing(tmp_path):
  run = RunDirectory(tmp_path / "run")
  assert not run.round(1).exists() and not run.path.exists()
