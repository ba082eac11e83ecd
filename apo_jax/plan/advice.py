"""What to change in a config whose programs do not fit into memory."""

from typing import Any

from apo_jax.config.schema import Config
from apo_jax.plan.chips import GIB
from apo_jax.plan.measure import Measured
from apo_jax.plan.planner import Plan


def advice(plan: Plan, config: Config) -> list[str]:
  """A sentence for each program that does not fit, with the flags that lower what it needs."""
  return [_sentence(plan, config, one) for one in plan.measured if not plan.fits(one)]


def _sentence(plan: Plan, config: Config, measured: Measured) -> str:
  program, memory = measured.program, plan.chip.memory
  flags = []
  if program.accumulation and config.model.remat != "full":
    flags.append("--config.model.remat=full")
  rows, accumulation = _field(config, program.rows_field), 1
  if program.accumulation:
    accumulation = _field(config, program.accumulation)
  shards = plan.mesh.data * plan.mesh.fsdp
  if rows % (accumulation * 2 * shards) == 0:  # more than one row a device, and an even number
    if program.accumulation:
      flags.append(f"--{program.accumulation}={accumulation * 2}")
    else:
      flags.append(f"--{program.rows_field}={rows // 2}")
  if program.rows_field == "config.sampling.batch_size" and config.sampling.gather_weights:
    flags.append("--config.sampling.gather_weights=False")
  if program.kept and not config.memory.park_idle_player:
    flags.append("--config.memory.park_idle_player=True")
  if plan.mesh.data > 1:
    flags.append("--config.mesh.data=1 --config.mesh.fsdp=-1")
  what = " or ".join(flags)
  more = "more chips, or adapters (config.policy.lora.rank, config.reward.lora.rank)"
  return (
    f"{program.name} needs {measured.needed / GIB:.1f} GiB of {memory / GIB:.1f} GiB: "
    f"{what + '; else ' if what else ''}{more}."
  )


def _field(config: Config, path: str) -> Any:
  """The value of a dotted field, "config.policy.training.batch_size"."""
  value: Any = config
  for name in path.split(".")[1:]:
    value = getattr(value, name)
  return value
