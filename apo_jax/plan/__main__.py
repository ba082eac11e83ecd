"""What a round of a config needs, before it is played: memory, time and cost. Kept short.

    python -m apo_jax.plan --config=configs/llama_7b_hh.py \
      --config.model.checkpoint=configs/shapes/llama_7b --topology=v5e:8x8

compiles both steps, sampling and scoring for TPUs, or GPUs, that are not there. It needs a
checkpoint's config.json alone, and no data.
"""

from pathlib import Path
from typing import Any

from absl import app, flags, logging

from apo_jax.config.command_line import find_config_file, parse_flags, refuse, say
from apo_jax.config.config_file import define_config
from apo_jax.config.fields import ConfigError

_CONFIG = define_config("The experiment; any field can be set, as in --config.model.remat=full.")
_TOPOLOGY = flags.DEFINE_string(
  "topology", "local", "A TPU slice such as v5e:16x16, GPUs such as h100:8, or 'local'."
)
_ONLY = flags.DEFINE_list(
  "only", [], "Programs to compile, as in --only='reward step,policy step'; by default all."
)


def main(arguments: list[str]) -> int:
  """Prints the plan that the flags ask for; returns the exit code."""
  try:
    find_config_file(arguments)
  except ConfigError as error:
    return refuse(str(error))
  logging.set_verbosity(logging.WARNING)
  # Imported late, so that a wrong flag is answered at once.
  import jax

  from apo_jax.logs.endings import ended
  from apo_jax.plan.descriptions import config_without_data
  from apo_jax.plan.devices import LOCAL
  from apo_jax.plan.planner import make_plan
  from apo_jax.plan.text import render

  if _TOPOLOGY.value != LOCAL:
    jax.config.update("jax_platforms", "cpu")  # else libtpu looks for a TPU of its own

  def work() -> int:
    config = config_without_data(_CONFIG.value)
    say(render(make_plan(config, _TOPOLOGY.value, _ONLY.value, _compiled, _begun), config))
    return 0

  return ended(work, Path())


def _begun(name: str, number: int, of: int) -> None:
  print(f"{number} of {of}, {name}: compiling", end="", flush=True)


def _compiled(measured: Any) -> None:
  print(f", {measured.compile_seconds:.1f} s", flush=True)


if __name__ == "__main__":
  app.run(main, flags_parser=parse_flags)
