"""How long our sampler's steps take by the rows of the batch, and the products in them alone.

    python -m benchmarks.decoding

A batch shrinks as responses end: each line of the table is one of its shapes. The products are
those of a step with all weights, layer behind layer and then the logits, with nothing but sums
between them. Beside them stands the rate of a large product.
"""

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from jaxtyping import Array, Float

from apo_jax.inference import decoding, packing
from apo_jax.inference.decoding_weights import DecodingForm, DecodingWeights, decoding_form
from apo_jax.inference.sampler import STEPS_A_CALL
from apo_jax.models.definition import define_policy
from apo_jax.models.model_flops import head_flops, layer_flops
from apo_jax.models.parameters import Parameters
from benchmarks import data, report, settings
from benchmarks.contestants.jax_limits import limits
from benchmarks.contestants.our_model import mesh
from benchmarks.contestants.our_sampling import sampling_config, sampling_seeds
from benchmarks.contestants.our_weights import SEED
from benchmarks.model import architecture

FLAGS = flags.FLAGS

flags.DEFINE_integer("queries", 8, "Queries.", lower_bound=1)
flags.DEFINE_integer("samples", 4, "Responses a query.", lower_bound=1)
flags.DEFINE_integer("query_tokens", 64, "Tokens of a query.", lower_bound=1)
flags.DEFINE_integer("tokens", 128, "Most tokens of a response.", lower_bound=STEPS_A_CALL + 1)


def main(argv: Sequence[str]) -> None:
  """Measures the shapes at the sizes of the command line."""
  del argv
  shape = architecture(settings.model())
  form = decoding_form(define_policy(shape, mesh()), mesh(), gather=False)
  weights = form(form.trained.init(SEED))
  limit = statistics.median(limits(FLAGS.dtype)["flops"] for _ in range(FLAGS.repeats))
  rows, measured = [], []
  for groups, width in packing.shapes(FLAGS.queries, FLAGS.samples, 1):
    step = _step_seconds(form, weights, groups, width)
    products = _products_seconds(form, weights, groups * width)
    rate = groups * width * (layer_flops(shape) + head_flops(shape)) / products
    measured.append({"groups": groups, "width": width, "step": step, "products": products})
    row = [f"{groups} x {width}", f"{step * 1e3:.1f}", f"{products * 1e3:.1f}"]
    rows.append([*row, f"{rate / 1e9:.1f}", f"{rate / limit:.0%}"])
  headings = ["queries x rows", "step ms", "products ms", "GFLOP/s", "of a large product"]
  text = report.table(headings, rows)
  text += f"\n\nA large product: {limit / 1e9:.1f} GFLOP/s."
  case = settings.case("queries", "samples", "query_tokens", "tokens")
  report.finish("decoding", case, text, {"limit": limit, "shapes": measured})


def _step_seconds(form: DecodingForm, weights: DecodingWeights, groups: int, width: int) -> float:
  """Of one step in a call of several, once a response has begun."""
  queries = data.queries(groups, FLAGS.query_tokens, FLAGS.vocab_size)
  job = {"lengths": [[FLAGS.tokens] * width] * groups}
  config = sampling_config(job)
  end = data.eos(FLAGS.vocab_size)
  ends = {"ends": (end,), "never_drawn": ()}
  choose = decoding.make_choose(config, **ends, known_tokens=end, table=None)
  batch = decoding.QueryBatch(
    np.array(queries, np.int32),
    np.full((groups,), FLAGS.query_tokens, np.int32),
    sampling_seeds(groups),
  )

  @jax.jit
  def begin(weights: DecodingWeights) -> decoding.State:
    policy = form.definition.bind(weights.whole())
    dtype = form.definition.architecture.compute_dtype
    return decoding.start(policy, batch, config, choose, cache_dtype=dtype, stacks=form.stacks)

  @functools.partial(jax.jit, donate_argnums=1)
  def proceed(weights: DecodingWeights, state: decoding.State) -> decoding.State:
    policy = form.definition.bind(weights.whole())
    return decoding.decode(policy, state, STEPS_A_CALL, choose, weights.stacks)

  return _median(lambda: begin(weights), functools.partial(proceed, weights)) / STEPS_A_CALL


def _products_seconds(form: DecodingForm, weights: DecodingWeights, rows: int) -> float:
  """Of the products of one step with all weights."""

  def layer(x: Float[Array, "R D"], own: Parameters) -> Float[Array, "R D"]:
    def product(name: str, values: Float[Array, "R I"]) -> Float[Array, "R O"]:
      return values @ own[name].reshape(values.shape[1], -1)

    read = product("query", x)
    read += sum(jnp.sum(product(name, x), axis=1, keepdims=True) for name in ("key", "value"))
    x += product("output", read)
    return x + product("down", product("gate", x) + product("up", x))

  @jax.jit
  def step(weights: DecodingWeights, x: Float[Array, "R D"]) -> Float[Array, "R V"]:
    for stack in weights.stacks:
      x, _ = jax.lax.scan(lambda x, own: (layer(x, own), None), x, stack)
    return form.definition.bind(weights.whole()).logits(x)

  features = form.definition.architecture.embed_dim
  x = jnp.ones((rows, features), form.definition.architecture.compute_dtype)
  return _median(lambda: x, functools.partial(step, weights))


def _median(make: Callable[[], Any], call: Callable[[Any], Any]) -> float:
  """The median time of a call on what is made for it, behind one that compiles."""
  taken = []
  for _ in range(FLAGS.repeats + 1):
    argument = jax.block_until_ready(make())
    began = time.perf_counter()
    jax.block_until_ready(call(argument))
    taken.append(time.perf_counter() - began)
  return statistics.median(taken[1:])


if __name__ == "__main__":
  app.run(main)
