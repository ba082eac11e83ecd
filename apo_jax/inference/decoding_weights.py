"""A policy's weights as the sampler reads them: every step reads all of them, so they are made
small and near once a phase.

Weights come in the compute type, and they may be whole on every device (but for the mesh's tensor
axis) where training splits them. Adapters are added into float32 weights. Frozen weights of another
type are kept so because memory is short: the sampler reads them as they are, each layer's adapters
beside them, and has no copy of its own.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from apo_jax.devices.cpu import decoding_stacks
from apo_jax.models.cache import split_stack
from apo_jax.models.definition import Definition, define_policy, merged
from apo_jax.models.parameters import Parameters


class DecodingWeights(NamedTuple):
  """What the sampler's functions take.

  Attributes:
    parameters: of `DecodingForm.definition`.
    stacks: the layers', in the form's number of stacks.
  """

  parameters: Parameters
  stacks: tuple[Parameters, ...]


@dataclasses.dataclass(frozen=True)
class DecodingForm:
  """How a policy's weights lie while it is sampled.

  Attributes:
    trained: the policy as it is trained.
    definition: the policy as it is sampled.
    stacks: how many its layers lie in (`devices.cpu.decoding_stacks`); of several, each is a copy.
  """

  trained: Definition
  definition: Definition
  stacks: int

  def __call__(self, parameters: Parameters) -> DecodingWeights:
    """The weights of a policy with these parameters, which are left as they are."""
    converted = self._convert(parameters) if self.changes else parameters
    return DecodingWeights(converted, self._stacks(converted))

  @property
  def abstract(self) -> DecodingWeights:
    """Shapes, types and shardings of the weights."""
    parameters = self.definition.abstract
    if self.stacks == 1:
      return DecodingWeights(parameters, self._stacks(parameters))
    return DecodingWeights(parameters, jax.eval_shape(self._stacks, parameters))

  @property
  def changes(self) -> bool:
    """Whether the weights are not the trained parameters themselves."""
    return self.trained.abstract != self.definition.abstract

  @functools.cached_property
  def _convert(self) -> Any:
    def convert(parameters: Parameters) -> Parameters:
      whole = parameters
      if self.definition.lora is None:
        whole = merged(parameters, self.trained.lora)
      return jax.tree.map(
        lambda leaf, like: leaf.astype(like.dtype), whole, self.definition.abstract
      )

    return jax.jit(
      convert,
      in_shardings=(self.trained.shardings,),
      out_shardings=self.definition.shardings,
    )

  def _stacks(self, parameters: Parameters) -> tuple[Parameters, ...]:
    if self.stacks == 1:
      return (parameters["layers"],)
    return _split(parameters["layers"], self.stacks)


def decoding_form(policy: Definition, mesh: Mesh, *, gather: bool) -> DecodingForm:
  """The form for a mesh; with `gather` no weight is split along the mesh's fsdp axis."""
  architecture = policy.architecture
  as_trained = policy.lora is not None and architecture.frozen_dtype != "float32"
  definition = policy if as_trained else define_policy(architecture, mesh)

  def describe(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    # Normalisation computes in float32 and its scales are small.
    is_kept = as_trained or path[-1].key.endswith("norm")
    dtype = leaf.dtype if is_kept else architecture.compute_dtype
    sharding = _gathered(leaf.sharding) if gather else leaf.sharding
    return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=sharding)

  abstract = jax.tree_util.tree_map_with_path(describe, definition.abstract)
  definition = dataclasses.replace(definition, abstract=abstract)
  return DecodingForm(policy, definition, decoding_stacks(mesh, architecture.layers))


def _gathered(sharding: NamedSharding) -> NamedSharding:
  axes = (None if axis == "fsdp" else axis for axis in sharding.spec)
  return NamedSharding(sharding.mesh, PartitionSpec(*axes))


# Compiled as one program, not a slice at a time.
_split = jax.jit(split_stack, static_argnums=1)
