"""Products with the table of the vocabulary, the largest of a training step, and what is read off
them.

A backward pass multiplies with gradients of logits. They come in the compute type, as those of all
other products do: float32 ones would take twice the time, at a third of the rate.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import CustomVJPPrimal
from jaxtyping import Array, Bool, Float, Int

from apo_jax.models.architecture import Architecture
from apo_jax.models.attention import soft_cap


def logits_of(
  hidden: Float[Array, "*N D"], table: Float[Array, "V D"], architecture: Architecture
) -> Float[Array, "*N V"]:
  """Next-token logits, float32, -inf where no token is."""
  return _finished(_product(hidden, table.astype(hidden.dtype)), architecture)


def logprobs_of(
  logits: Float[Array, "*N V"], targets: Int[Array, "*N"], wanted: Bool[Array, "*N"]
) -> Float[Array, "*N"]:
  """The log-probabilities of the wanted targets, 0 elsewhere."""
  chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
  return jnp.where(wanted, chosen - jax.nn.logsumexp(logits, axis=-1), 0.0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def logprobs_by_chunks(
  architecture: Architecture,
  hidden: Float[Array, "C *N D"],
  table: Float[Array, "V D"],
  targets: Int[Array, "C *N"],
  wanted: Bool[Array, "C *N"],
) -> Float[Array, "C *N"]:
  """`logprobs_of` with the logits of one chunk in memory at a time, forward and backward.

  Chunks in which nothing is wanted cost nothing. The table is brought to the compute type once, and
  its gradient is summed in float32: what a chunk adds to it is read and written once.
  """
  cast = table.astype(hidden.dtype)

  def read(hidden: Array, targets: Array, wanted: Array) -> Array:
    return logprobs_of(_finished(_product(hidden, cast), architecture), targets, wanted)

  def nothing(hidden: Array, targets: Array, wanted: Array) -> Array:
    return jnp.zeros(targets.shape, jnp.float32)

  def step(_: None, chunk: tuple[Array, Array, Array]) -> tuple[None, Array]:
    return None, jax.lax.cond(jnp.any(chunk[2]), read, nothing, *chunk)

  return jax.lax.scan(step, None, (hidden, targets, wanted))[1]


def _forward(
  architecture: Architecture,
  hidden: CustomVJPPrimal,
  table: CustomVJPPrimal,
  targets: CustomVJPPrimal,
  wanted: CustomVJPPrimal,
) -> tuple[Array, tuple[Any, ...]]:
  kept = hidden.value, table.value, targets.value, wanted.value
  # A frozen table has no gradient. Its residual says so: a pytree's structure is static.
  learns = () if table.perturbed else None
  return logprobs_by_chunks(architecture, *kept), (*kept, learns)


def _backward(
  architecture: Architecture, kept: tuple[Any, ...], gradient: Float[Array, "C *N"]
) -> tuple[Array, Array | None, None, None]:
  hidden, table, targets, wanted, learns = kept
  cast = table.astype(hidden.dtype)
  # Summed in float32 whatever the table's type is.
  summed = None if learns is None else jnp.zeros(table.shape, jnp.float32)

  def read(summed: Array | None, chunk: tuple[Array, ...]) -> tuple[Array | None, Array]:
    hidden, targets, wanted, gradient = chunk

    def found(product: Array) -> Array:
      return logprobs_of(_finished(product, architecture), targets, wanted)

    _, pull_back = jax.vjp(found, _product(hidden, cast))
    of_hidden, of_table = _product_gradients(hidden, cast, pull_back(gradient)[0])
    return None if summed is None else summed + of_table, of_hidden

  def nothing(summed: Array | None, chunk: tuple[Array, ...]) -> tuple[Array | None, Array]:
    return summed, jnp.zeros_like(chunk[0])

  def step(summed: Array | None, chunk: tuple[Array, ...]) -> tuple[Array | None, Array]:
    return jax.lax.cond(jnp.any(chunk[2]), read, nothing, summed, chunk)

  if isinstance(gradient, jax.custom_derivatives.SymbolicZero):
    gradient = jnp.zeros(gradient.shape, gradient.dtype)
  summed, of_hidden = jax.lax.scan(step, summed, (hidden, targets, wanted, gradient))
  return of_hidden, None if summed is None else summed.astype(table.dtype), None, None


logprobs_by_chunks.defvjp(_forward, _backward, symbolic_zeros=True)


@jax.custom_vjp
def _product(hidden: Float[Array, "*N D"], table: Float[Array, "V D"]) -> Float[Array, "*N V"]:
  """The product of two arrays of one type, in float32."""
  return jnp.einsum("...d,vd->...v", hidden, table, preferred_element_type=jnp.float32)


def _product_gradients(
  hidden: Float[Array, "*N D"], table: Float[Array, "V D"], gradient: Float[Array, "*N V"]
) -> tuple[Float[Array, "*N D"], Float[Array, "V D"]]:
  """Of hidden states in their type, of the table in float32."""
  gradient = gradient.astype(hidden.dtype)
  to_float32 = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
  of_hidden = to_float32("...v,vd->...d", gradient, table).astype(hidden.dtype)
  return of_hidden, to_float32("...v,...d->vd", gradient, hidden)


def _product_backward(
  kept: tuple[Array, Array], gradient: Float[Array, "*N V"]
) -> tuple[Array, Array]:
  of_hidden, of_table = _product_gradients(*kept, gradient)
  return of_hidden, of_table.astype(kept[1].dtype)


_product.defvjp(lambda hidden, table: (_product(hidden, table), (hidden, table)), _product_backward)


def _finished(product: Float[Array, "*N V"], architecture: Architecture) -> Float[Array, "*N V"]:
  """Logits of the product: scaled and capped where the model does, -inf where no token is."""
  logits = product
  if architecture.logits_scale != 1.0:
    logits = logits * architecture.logits_scale
  if architecture.logits_softcap:
    logits = soft_cap(logits, architecture.logits_softcap)
  if architecture.vocab_rows > architecture.vocab_size:
    known = jnp.arange(architecture.vocab_rows) < architecture.vocab_size
    logits = jnp.where(known, logits, -jnp.inf)
  return logits
