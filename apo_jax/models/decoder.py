"""One decoder for the Llama family and its relatives; `Architecture` says which.

Layers are stacked: each parameter of `Layer` has a leading layer axis, and the forward pass scans
over it, so compile time does not grow with depth. Attention reads explicit segment ids and
positions, so padding on either side and several responses behind one query are one mechanism.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from apo_jax.config.schema import LoraConfig
from apo_jax.devices.sharding import constrain
from apo_jax.models.architecture import Architecture, Rope
from apo_jax.models.attention import (
  attend_cache,
  attention_mask,
  rope_frequencies,
  rope_turns,
  within_window,
)
from apo_jax.models.attention_kernels import make_kernel
from apo_jax.models.block_attention import KEPT, attend_earlier
from apo_jax.models.cache import Cache, KeyValues, Place, split_stack, write_newest
from apo_jax.models.layer import Layer, LayerInput, rms_norm
from apo_jax.models.vocabulary import logits_of


class Decoder(nnx.Module):
  """Token ids to hidden states, and hidden states to logits.

  Parameters are made in float32, and kept in the types that `Definition` says; activations have
  `architecture.compute_dtype`. Without a language-model head (`head=False`, for reward models) no
  parameter or array has a vocabulary axis but the embedding.
  """

  def __init__(
    self,
    architecture: Architecture,
    rngs: nnx.Rngs,
    *,
    head: bool = True,
    lora: LoraConfig | None = None,
  ):
    self.architecture = architecture
    shape = (architecture.vocab_rows, architecture.embed_dim)
    scale = architecture.embed_dim**-0.5

    def table():
      values = jax.random.normal(rngs.params(), shape, jnp.float32) * scale
      return nnx.Param(values, axes=("vocab", "embed"))

    self.embedding = table()
    self.layers = Layer(architecture, lora, rngs)
    start = 0.0 if architecture.unit_offset_norms else 1.0
    final_norm = jnp.full((architecture.embed_dim,), start, jnp.float32)
    self.final_norm = nnx.Param(final_norm, axes=("embed",))
    if head and not architecture.tied_embeddings:
      self.head = table()

  def __call__(
    self,
    tokens: Int[Array, "B T"],
    segment_ids: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    *,
    separate: bool = False,
    keep: bool = False,
    dropout_key: Key[Array, ""] | None = None,
  ) -> tuple[Float[Array, "B T D"], KeyValues | None]:
    """Final hidden states, normalised; with `keep`, also keys and values, [L, B, T, K, D] each.

    `separate` is the caller's word that each row is a query, at most one response to it, then
    padding, which fused attention reads faster. `dropout_key` is for training: it turns the
    adapters' dropout on.
    """
    architecture = self.architecture
    mask = attention_mask(segment_ids)
    back = positions[:, :, None] - positions[:, None, :]
    kernel = make_kernel(architecture, mask, separate=separate)

    def attend_row(queries: Array, keys: Array, values: Array, layer: LayerInput):
      kept = (keys, values) if keep else None
      if kernel is not None:
        return kernel(queries, keys, values), kept
      seen = mask if layer.window is None else mask & within_window(back, layer.window)
      return attend_earlier(queries, keys, values, seen, architecture), kept

    graphdef, stacked = nnx.split(self.layers)
    turns = self._turns(positions)

    def body(x, scanned):
      parameters, layer = scanned
      return nnx.merge(graphdef, parameters)(x, turns, layer, attend_row)

    inputs = self._layer_inputs(dropout_key)
    body = _remat(body, architecture.remat)
    x, kept = jax.lax.scan(body, self._embed(tokens), (stacked, inputs))
    return rms_norm(x, self.final_norm[...], architecture), kept

  def step(
    self,
    tokens: Int[Array, "B W"],
    place: Place,
    cache: Cache,
    stacks: Sequence[Any] | None = None,
  ) -> tuple[Float[Array, "B W D"], Cache]:
    """Final hidden states of the newest token of every response, and the cache with it.

    `stacks` are the layers' parameters, in as many stacks as the cache has (`split_stack`); None
    takes the module's own, which are one.
    """
    graphdef, stacked = nnx.split(self.layers)
    stacks = (stacked,) if stacks is None else stacks
    prompt_slots, slots = (jax.tree.leaves(part)[0].shape[-1] for part in cache)
    positions = place.prompt_lengths[:, None] + place.ages - 1
    turns = self._turns(positions)
    prompt_positions = jnp.arange(prompt_slots)
    prompt_back = positions[:, :, None] - prompt_positions
    response_back = jnp.mod(place.slot - jnp.arange(slots), slots)
    in_prompt = (prompt_positions < place.prompt_lengths[:, None])[:, None, :]
    in_prompt = jnp.broadcast_to(in_prompt, prompt_back.shape)
    in_response = response_back < place.ages[:, :, None]

    def body(carry, scanned):
      x, rings = carry
      parameters, layer, prompt, index = scanned

      def attend_both(queries: Array, keys: Array, values: Array, layer: LayerInput):
        far, near = in_prompt, in_response
        if layer.window is not None:
          far = far & within_window(prompt_back, layer.window)
          near = near & within_window(response_back, layer.window)
        both = write_newest(rings, keys, values, place.slot, index)
        own = tuple(jax.lax.dynamic_index_in_dim(ring, index, keepdims=False) for ring in both)
        return attend_cache(queries, prompt, own, far, near, self.architecture), both

      return nnx.merge(graphdef, parameters)(x, turns, layer, attend_both), None

    x, written = self._embed(tokens), []
    inputs = split_stack(self._layer_inputs(None), len(stacks))
    for parameters, layers, prompts, rings in zip(stacks, inputs, *cache, strict=True):
      scanned = (parameters, layers, prompts, jnp.arange(len(rings[0])))
      (x, rings), _ = jax.lax.scan(body, (x, rings), scanned)
      written.append(rings)
    x = rms_norm(x, self.final_norm[...], self.architecture)
    return x, cache._replace(responses=tuple(written))

  def _embed(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T D"]:
    architecture = self.architecture
    x = self.embedding[...].astype(architecture.compute_dtype)[tokens]
    if architecture.embedding_scale != 1.0:
      x = x * jnp.asarray(architecture.embedding_scale, x.dtype)
    return constrain(x, "batch", "sequence", None)

  def _layer_inputs(self, dropout_key: Key[Array, ""] | None) -> LayerInput:
    """What the layers get beside their parameters, stacked."""
    kinds, ropes = self.architecture.kinds, self._ropes()
    windows = [kind.window for kind in kinds]
    return LayerInput(
      rope=jnp.array([ropes.index(kind.rope) for kind in kinds]),
      window=jnp.array(windows, jnp.int32) if any(windows) else None,
      dropout_key=None if dropout_key is None else jax.random.split(dropout_key, len(kinds)),
    )

  def _turns(self, positions: Int[Array, "B T"]) -> Float[Array, "ropes 2 B T half"]:
    """What each rotary embedding that a layer has does at these positions."""
    features = self.architecture.rotary_dim or self.architecture.head_dim
    turns = [
      rope_turns(positions, rope_frequencies(rope, features), rope.amplitude if rope else 1.0)
      for rope in self._ropes()
    ]
    return constrain(jnp.stack(turns), None, None, "batch", "sequence", None)

  def _ropes(self) -> list[Rope | None]:
    return list(dict.fromkeys(kind.rope for kind in self.architecture.kinds))

  def logits(self, hidden: Float[Array, "*N D"]) -> Float[Array, "*N V"]:
    """Next-token logits, float32, -inf where no token is."""
    return logits_of(hidden, self.table, self.architecture)

  @property
  def table(self) -> Float[Array, "V D"]:
    """What logits are products with."""
    return (self.embedding if self.architecture.tied_embeddings else self.head)[...]


def _remat(body, policy: str):
  """The layer with what its backward pass recomputes: nothing, all but products, or all.

  Products are those with weights, and what attention by XLA has attended to.
  """
  if policy == "none":
    return body
  if policy == "dots":
    policies = jax.checkpoint_policies
    keep = policies.save_from_both_policies(
      policies.dots_with_no_batch_dims_saveable, policies.save_only_these_names(KEPT)
    )
    return jax.checkpoint(body, policy=keep, prevent_cse=False)
  return jax.checkpoint(body, prevent_cse=False)
