"""Responses that end on a schedule, in the real sampler."""

import dataclasses

from apo_jax.inference import sampler
from apo_jax.inference.sampler import Sampler
from benchmarks.contestants import our_sampling
from tests import tiny

QUERIES = [[1, 40, 50, 60], [1, 70, 80, 90], [1, 33, 44, 55], [1, 66, 77, 88]]
LENGTHS = [[3, 24], [1, 9], [24, 2], [5, 17]]


def test_every_response_has_its_length_wherever_it_moves(monkeypatch):
  monkeypatch.setattr(sampler, "make_choose", sampler.make_choose)  # put back afterwards
  definition, parameters = tiny.policy()
  codec = dataclasses.replace(tiny.codec(), never_drawn=frozenset({tiny.codec().eos}))
  draw = Sampler(
    definition,
    codec,
    tiny.mesh(),
    buckets=(4,),
    batch_size=4,
    cache_dtype="float32",
    gather_weights=False,
  )
  config = our_sampling.sampling_config({"lengths": LENGTHS})
  seeds = our_sampling.sampling_seeds(len(QUERIES))
  our_sampling.end_on_schedule(seeds, LENGTHS)
  drawn = draw(parameters, QUERIES, seeds, config)
  assert [[len(one.response.tokens) for one in row] for row in drawn] == LENGTHS
