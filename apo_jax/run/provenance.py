"""What would have to be known of a round to play it again."""

import dataclasses

import jax

from apo_jax.logs import files
from apo_jax.logs.run_directory import PROVENANCE
from apo_jax.run.run import Run


def write_provenance(run: Run, round: int) -> None:
  """Says what a round starts from, once, before it is played."""
  path = run.directory.round(round) / PROVENANCE
  if not run.logs.is_writer or path.exists():
    return
  config, players = run.config, run.players
  files.write_json(
    path,
    {
      "round": round,
      "seed": config.seed,
      "sampling_policy": players.policy_after(round - 1).name,
      "model_checkpoint": config.model.checkpoint,
      "reward_checkpoint": config.reward.checkpoint,
      "testing_reward_checkpoint": config.testing_reward.checkpoint,
      "checkpoint_sha256": run.models.origins.fingerprints,
      "policy_start": players.policy_start(round).name,
      "reference": players.reference(round).name,
      "reward_mode": config.reward.mode,
      "reward_start": players.reward_start(round).name,
      "data_sha256": files.read_json(run.directory.data)["sha256"],
      "sampler": dataclasses.asdict(config.sampling.training),
      "evaluation_sampler": dataclasses.asdict(config.sampling.evaluation),
      "devices": f"{jax.device_count()} {jax.devices()[0].device_kind}",
      "mesh": dict(run.models.mesh.shape),
      "jax": jax.__version__,
    },
  )
