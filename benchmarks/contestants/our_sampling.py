"""Our sampler as a contestant, its responses ended on a schedule."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt32

from apo_jax.config.schema import SamplerConfig
from apo_jax.inference import decoding, sampler
from apo_jax.inference.decoding import Choose, Drawing
from apo_jax.inference.sampler import Sampler
from apo_jax.models.definition import define_policy
from apo_jax.run.seeds import derive_key
from benchmarks import data
from benchmarks.contestants import our_parameters
from benchmarks.contestants.our_model import mesh
from benchmarks.model import adapters, architecture


class TokenIds(NamedTuple):
  """What the sampler reads of a codec, without a tokenizer; ids from `size` on are never drawn."""

  eos: int
  size: int
  ends: tuple[int, ...] = ()
  never_drawn: tuple[int, ...] = ()

  def texts(self) -> list[str]:
    """None: there are no stop strings."""
    return []


def sampling_config(job: Mapping[str, Any]) -> SamplerConfig:
  """Plain sampling, no filter, as many tokens as the longest response has."""
  lengths = job["lengths"]
  return SamplerConfig(
    num_samples=len(lengths[0]),
    temperature=1.0,
    top_k=0,
    top_p=1.0,
    repetition_penalty=1.0,
    max_new_tokens=max(map(max, lengths)),
    stop=(),
  )


def make_sampler(job: Mapping[str, Any]) -> Sampler:
  """For batches of `job["batch"]` queries, read at their own length; eos is never drawn."""
  shape = architecture(job["model"])
  end = data.eos(shape.vocab_size)
  return Sampler(
    define_policy(shape, mesh(), adapters(job["model"])),
    TokenIds(end, size=end),
    mesh(),
    buckets=(len(job["queries"][0]),),
    batch_size=job["batch"],
    cache_dtype=shape.compute_dtype,
    gather_weights=False,
  )


def sampling_seeds(queries: int) -> np.ndarray:
  """UInt32[queries, 2]."""
  return np.stack([derive_key(0, "benchmark", number) for number in range(queries)])


def end_on_schedule(seeds: UInt32[np.ndarray, "Q 2"], lengths: Sequence[Sequence[int]]) -> None:
  """Makes every sampler of this process end its responses at these lengths, one list a query.

  Random weights say eos almost never, and real ones say it at different lengths in every library.
  So every contestant is given the same lengths, and ends a response where a sampled eos would
  have: ours by its random key, which is what tells responses apart wherever they are in a batch.
  The few numbers compared for it are no work that an eos would save.
  """
  columns = range(len(lengths[0]))
  keys = jnp.stack([_response_key(seed, column) for seed in seeds for column in columns])
  limits = jnp.array(lengths).reshape(-1)
  plain = decoding.make_choose

  def make_choose(*arguments: Any, **options: Any) -> Choose:
    choose = plain(*arguments, **options)

    def choose_until(drawing: Drawing, logits: Array) -> Drawing:
      drawing = choose(drawing, logits)
      own = jnp.all(drawing.keys[:, :, None] == keys, axis=-1)
      limit = jnp.sum(jnp.where(own, limits, 0), axis=-1)
      return drawing._replace(live=drawing.live & (drawing.samples.lengths < limit))

    return choose_until

  sampler.make_choose = make_choose


def sampling_run(job: Mapping[str, Any]) -> Callable[[], dict[str, Any]]:
  """Samples `job["lengths"]` tokens to each of `job["queries"]`, from our random weights."""
  draw = make_sampler(job)
  seeds = sampling_seeds(len(job["queries"]))
  end_on_schedule(seeds, job["lengths"])
  parameters = our_parameters.make(draw.form.trained)
  config = sampling_config(job)

  def run() -> dict[str, Any]:
    began = time.perf_counter()
    drawn = draw(parameters, job["queries"], seeds, config)
    seconds = time.perf_counter() - began
    tokens = sum(len(one.response.tokens) for responses in drawn for one in responses)
    return {"seconds": seconds, "tokens": tokens}

  return run


def _response_key(seed: UInt32[np.ndarray, "2"], column: int) -> Int[Array, "2"]:
  key = jax.random.wrap_key_data(jnp.asarray(seed), impl="threefry2x32")
  return jax.random.key_data(jax.random.fold_in(key, column))
