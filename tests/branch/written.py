"""A finished run of one round with random players, whole enough to be branched."""

from pathlib import Path

from apo_jax.config.schema import Config
from apo_jax.logs.files import write_json, write_jsonl
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.run.phase_inputs import phase_names
from apo_jax.run.records import record_phase
from apo_jax.run.tokenizer import write_tokenizer_hashes
from tests import finished_run

BESIDE = ("00/test_samples.jsonl", "00/judge.json", "01/test_samples.jsonl", "01/provenance.json")


def make(run_dir: Path, **overrides: object) -> Config:
  """The run; overrides as in `tiny.config`."""
  config = finished_run.make(run_dir, rounds=1, **overrides)
  directory = RunDirectory(run_dir)
  for name in phase_names(config):
    if name.player is None:
      write_json(directory.round(name.round) / name.result, {"of": name.words})
  for file in BESIDE:
    write_json(directory.rounds / file, {"file": file})
  for name in phase_names(config):
    record_phase(directory, name)
  write_tokenizer_hashes(directory)
  write_json(directory.data, {"sha256": "of the data"})
  write_json(directory.origins, {})
  lines = [{"time": 1.0, "round": round, "phase": "policy", "step": 1} for round in (0, 1, 2)]
  write_jsonl(directory.metrics, lines)
  return config
