"""apo_jax as a contestant: `job["work"]` says what it builds.

Every job has the model (`settings.model`) in `job["model"]` and the data in fields of its own.
"""

import importlib.metadata
from collections.abc import Callable, Mapping
from typing import Any

import jax

from benchmarks import resident
from benchmarks.contestants import our_compilation, our_sampling, our_steps, our_weights
from benchmarks.contestants.jax_limits import limits, peak_bytes
from benchmarks.contestants.our_model import mesh
from benchmarks.protocol import Server

# Each builds what the job wants and gives what a run of it does.
WORKS: dict[str, Callable[[Mapping[str, Any]], Callable[[], dict[str, Any]]]] = {
  "weights": our_weights.write,
  "sampling": our_sampling.sampling_run,
  "dpo": our_steps.dpo,
  "reward": our_steps.reward,
  "rrhf": our_steps.rrhf,
  "sft": our_steps.sft,
  "reward scores": our_steps.reward_scores,
  "logprob scores": our_steps.logprob_scores,
  "compilation": our_compilation.compilation,
}


def main() -> None:
  """Builds the job's work, then answers."""
  server = Server()
  device = jax.devices()[0]
  held = resident.held_bytes()
  with jax.set_mesh(mesh()):
    run = WORKS[server.job["work"]](server.job)
    server.handlers = {
      "run": run,
      "limits": lambda: limits(server.job["model"]["dtype"]),
      "memory": lambda: {"bytes": peak_bytes(device, held)},
    }
    versions = {name: importlib.metadata.version(name) for name in ("jax", "flax", "optax")}
    server.answer({"versions": versions, "device": device.device_kind})
    server.serve()


if __name__ == "__main__":
  main()
