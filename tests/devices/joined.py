"""A run of several processes without a model: joined, together in updates, or each for itself.

python -m tests.devices.joined FOLDER PHASE ADDRESS PROCESSES PROCESS
"""

import itertools
import sys
import time
from pathlib import Path

import jax

from apo_jax.config.fields import ConfigError
from apo_jax.devices import distributed, interrupts
from apo_jax.devices.processes import barrier


def main(folder: Path, phase: str, address: str, processes: int, process: int) -> int:
  """Plays one phase until something ends it; what it reaches is said by files of the folder."""
  distributed.initialize(address, processes, process, auto=False)
  try:
    if phase == "updates":
      update_for_ever(folder, process)
    for number in itertools.count():
      if phase == "together":
        barrier(f"sampling {number}")
      (folder / f"reached_{process}").touch()
      if phase == "failing" and process == 1:
        raise ZeroDivisionError("of this process alone")
      if phase == "refusing" and process == 1:
        raise ConfigError("data.path is 'x', and there is no such file.")
      time.sleep(0.05)
      if phase == "finishing" and (process == 1 or number > 40):
        return 0
  except interrupts.Interrupted as interrupted:
    print(f"apo_jax: {interrupted}", file=sys.stderr)
    return distributed.leave(interrupted.code, str(interrupted))
  except ConfigError as error:
    return distributed.leave(2, str(error))


def update_for_ever(folder: Path, process: int) -> None:
  """Updates that need all processes, which run ahead of each other as devices let them."""
  with interrupts.deferred():
    for step in itertools.count(1):
      if (step + process) % 3 == 0:
        time.sleep(0.03)
      barrier(f"update {step}")
      if step > 3:
        (folder / f"reached_{process}").touch()
      if interrupts.stops_at(step):
        (folder / f"saved_{process}").write_text(str(step))
        interrupts.check()


if __name__ == "__main__":
  jax.config.update("jax_platforms", "cpu")
  sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], *map(int, sys.argv[4:])))
