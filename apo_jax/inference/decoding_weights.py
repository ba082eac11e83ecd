"""A policy's weights as the sampler reads them: every step reads all of them, so they are made
small and near once a phase.

Adapters are added into their weights, weights come in the compute type, and they may be whole on
every device (but for the mesh's tensor axis) where training splits them.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from apo_jax.models.definition import Definition, define_policy, merged
from apo_jax.models.parameters import Parameters


class DecodingWeights(NamedTuple):
  """What the sampler's functions take.

  Attributes:
    parameters: of `DecodingForm.definition`.
    layers: each layer's own, copied out of the stack; None where a scan takes them from it.
  """

  parameters: Parameters
  layers: tuple[Parameters, ...] | None


@dataclasses.dataclass(frozen=True)
class DecodingForm:
  """How a policy's weights lie while it is sampled.

  Attributes:
    trained: the policy as it is trained.
    definition: the policy as it is sampled, without adapters.
    split: layers are copied out of the stack as well. A scan over layers copies each layer's
      weights on a CPU, which takes as long as the products with them.
  """

  trained: Definition
  definition: Definition
  split: bool

  def __call__(self, parameters: Parameters) -> DecodingWeights:
    """The weights of a policy with these parameters, which are left as they are."""
    converted = self._convert(parameters) if self.changes else parameters
    return DecodingWeights(converted, self._layers(converted))

  @property
  def abstract(self) -> DecodingWeights:
    """Shapes, types and shardings of the weights."""
    parameters = self.definition.abstract
    return DecodingWeights(parameters, jax.eval_shape(self._layers, parameters))

  @property
  def changes(self) -> bool:
    """Whether the weights are not the trained parameters themselves."""
    return self.trained.abstract != self.definition.abstract

  @functools.cached_property
  def _convert(self) -> Any:
    def convert(parameters: Parameters) -> Parameters:
      whole = merged(parameters, self.trained.lora)
      return jax.tree.map(
        lambda leaf, like: leaf.astype(like.dtype), whole, self.definition.abstract
      )

    return jax.jit(
      convert,
      in_shardings=(self.trained.shardings,),
      out_shardings=self.definition.shardings,
    )

  def _layers(self, parameters: Parameters) -> tuple[Parameters, ...] | None:
    if not self.split:
      return None
    return tuple(
      jax.tree.map(functools.partial(_one, number), parameters["layers"])
      for number in range(self.definition.architecture.layers)
    )


def decoding_form(policy: Definition, mesh: Mesh, *, gather: bool) -> DecodingForm:
  """The form for a mesh; with `gather` no weight is split along the mesh's fsdp axis."""
  definition = define_policy(policy.architecture, mesh)

  def describe(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    # Normalisation computes in float32 and its scales are small.
    is_norm = path[-1].key.endswith("norm")
    dtype = leaf.dtype if is_norm else policy.architecture.compute_dtype
    sharding = _gathered(leaf.sharding) if gather else leaf.sharding
    return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=sharding)

  abstract = jax.tree_util.tree_map_with_path(describe, definition.abstract)
  one_cpu = mesh.size == 1 and mesh.devices.flat[0].platform == "cpu"
  return DecodingForm(policy, dataclasses.replace(definition, abstract=abstract), split=one_cpu)


def _gathered(sharding: NamedSharding) -> NamedSharding:
  axes = (None if axis == "fsdp" else axis for axis in sharding.spec)
  return NamedSharding(sharding.mesh, PartitionSpec(*axes))


@jax.jit
def _one(number: Int[Array, ""] | int, leaf: Float[Array, "L ..."]) -> Float[Array, "..."]:
  """One layer's; compiled once a shape, not once a layer."""
  return jax.lax.dynamic_index_in_dim(leaf, number, keepdims=False)
