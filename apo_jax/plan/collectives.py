"""What a device sends in a collective, and along which axes of the torus that links the devices."""

import math
import re

import numpy as np
from jaxtyping import Int

from apo_jax.plan.hlo import Computation, Instruction

# A torus has at most three.
AXES = 3

_COLLECTIVES = (
  "all-gather",
  "all-reduce",
  "reduce-scatter",
  "all-to-all",
  "ragged-all-to-all",
  "collective-permute",
  "collective-broadcast",
)


def is_collective(one: Instruction) -> bool:
  """Whether an instruction is a collective, or the first half of one."""
  return one.opcode.removesuffix("-start") in _COLLECTIVES


def sent_along(
  computation: Computation, one: Instruction, coordinates: Int[np.ndarray, "devices 3"]
) -> tuple[float, ...]:
  """Bytes that one device sends in a collective along each axis, as a ring of its group needs.

  They are spread evenly over the axes that the group extends along.

  Args:
    computation: the instruction's.
    one: the collective.
    coordinates: where each device is, in the order in which the program numbers them.
  """
  members = _group(one, len(coordinates))
  sent = _sent(computation, one, len(members))
  extends = np.any(coordinates[members] != coordinates[members[0]], axis=0)
  return tuple(sent / max(np.sum(extends), 1) if extended else 0.0 for extended in extends)


def _sent(computation: Computation, one: Instruction, size: int) -> float:
  kind = one.opcode.removesuffix("-start")
  given = math.fsum(computation.instructions[name].bytes for name in one.operands)
  if kind in ("collective-permute", "collective-broadcast"):
    return given
  share = (size - 1) / size
  if kind == "all-gather":
    return given * size * share
  return given * share * (2 if kind == "all-reduce" else 1)


def _group(collective: Instruction, num_devices: int) -> Int[np.ndarray, "members"]:
  """The devices of one of the groups that take part in a collective together.

  Groups are listed, {{0,1},{2,3}}, or counted, [4,16]<=[64] (4 of 16 each), or they are axes of a
  mesh, mesh['a'=4,'b'=16] {'b'}, where 'b':(2)8 is 8 of an axis. None, or {}, is all devices. Of
  pairs that send to each other it is the first.

  Raises:
    ValueError: they are written in another way.
  """
  found = re.search(r"(replica_groups|source_target_pairs)=(.*)", collective.attributes)
  text = found[2] if found else "{}"
  listed = re.match(r"\{\{([\d,]+)\}", text)
  if listed:
    return np.array(listed[1].split(","), int)
  if text.startswith("{}"):
    return np.arange(num_devices)
  counted = re.match(r"\[(\d+),(\d+)\]<=(\[[\d,]+\](?:T\([\d,]+\))?)", text)
  if counted:
    return _numbered(counted[3]).reshape(int(counted[1]), int(counted[2]))[0]
  mesh = re.match(r"mesh\[([^\]]*)\](?:, device_ids=\((\[[^{]*)\))? \{([^}]*)\}", text)
  if mesh and not re.search(r"'([^']+)'.*'\1'", mesh[3]):  # no two parts of one axis
    devices = _numbered(mesh[2]) if mesh[2] else np.arange(num_devices)
    return _of_axes(devices, mesh[1], mesh[3])
  raise ValueError(f"The groups of {collective.name} are not understood: {text[:80]!r}.")


def _numbered(text: str) -> Int[np.ndarray, "devices"]:
  """Devices in the order that [4,16]T(1,0) says: those of an array of this shape, transposed."""
  shape, *order = (tuple(map(int, part.split(","))) for part in re.findall(r"[\[(]([\d,]+)", text))
  devices = np.arange(math.prod(shape)).reshape(shape)
  return (devices.transpose(order[0]) if order else devices).reshape(-1)


def _of_axes(
  devices: Int[np.ndarray, "devices"], sizes: str, used: str
) -> Int[np.ndarray, "members"]:
  """The first devices of a mesh along the axes `used`, of all that have these `sizes`."""
  axes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", sizes)}
  parts = {
    name: (int(before or 1), int(size or axes[name]))
    for name, before, size in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", used)
  }
  shape, index = [], []
  for name, whole in axes.items():
    before, size = parts.get(name, (1, 1))
    shape += [before, size, whole // (before * size)]
    index += [0, slice(None), 0]
  return devices.reshape(shape)[tuple(index)].reshape(-1)
