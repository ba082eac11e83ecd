"""What is done for XLA on CPUs alone; docs/cpu.md says what each piece is worth.

All of it changes how a program is compiled or how arrays lie, none of it what is computed.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh


def is_one_cpu(mesh: Mesh) -> bool:
  """Whether the mesh is one device, a CPU."""
  return mesh.size == 1 and mesh.devices.flat[0].platform == "cpu"


def compiler_options(mesh: Mesh, remat: str) -> dict[str, str] | None:
  """For a training step that recomputes all activations (`remat` "full") in order to save memory.

  XLA for CPUs by default runs whatever can run, so that all logits and the zeros that gradients are
  summed into are in memory at once. Its other order of work saves memory. With several processes
  that order differs between them, and with it the order of what they send each other.
  """
  if is_one_cpu(mesh) and remat == "full":
    return {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
  return None


def without_unit_axes(stacks: tuple[Any, ...]) -> tuple[Any, ...]:
  """Arrays of several stacks without their axes of length 1, to be carried by a loop.

  XLA for CPUs drops such axes from an array where it writes to it. If the loop carries the array
  with them, it has two shapes, and XLA copies it in every step instead of writing in place. A
  single stack is left as it is: its layers are scanned, and XLA writes to it in the scan.
  """
  return stacks if len(stacks) == 1 else jax.tree.map(jnp.squeeze, stacks)


def with_shapes(tree: Any, like: Any) -> Any:
  """The arrays of a pytree in the shapes of another's: undoes `without_unit_axes`."""
  return jax.tree.map(lambda array, shaped: array.reshape(shaped.shape), tree, like)
