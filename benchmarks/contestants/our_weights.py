"""Our random weights as checkpoints that peers read, so that all have the same model."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from apo_jax.export import weights as export
from apo_jax.logs.files import write_json
from apo_jax.models.definition import define_policy, define_reward_model
from benchmarks.contestants.our_model import mesh
from benchmarks.data import PADDING
from benchmarks.model import architecture

SEED = 0
MAX_POSITIONS = 8192
FAMILY = "llama"


def write(job: Mapping[str, Any]) -> Callable[[], dict[str, Any]]:
  """Writes `policy` and `reward` into the folder `job["weights"]`; there is nothing to run."""
  shape = architecture(job["model"])
  base = export.llama_config(shape, MAX_POSITIONS)
  policy = define_policy(shape, mesh())
  tensors = export.policy_tensors(policy.init(SEED), policy, FAMILY, "float32")
  config = export.policy_config(base, FAMILY, shape, "float32")
  _write(Path(job["weights"]) / "policy", tensors, config)
  reward = define_reward_model(shape, "eos", mesh())
  tensors = export.reward_tensors(reward.init(SEED), reward, FAMILY, "float32")
  config = export.reward_config(base, FAMILY, shape, "float32", PADDING)
  _write(Path(job["weights"]) / "reward", tensors, config)
  return dict


def _write(folder: Path, tensors: list[export.Tensor], config: Mapping[str, Any]) -> None:
  folder.mkdir(parents=True)
  export.write_weights(folder, tensors)
  write_json(folder / export.CONFIG_FILE, config)
