"""Our updates and scorers as contestants."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from apo_jax.inference.scoring import make_logprob_scorer, make_reward_scorer
from apo_jax.models.definition import Definition, define_policy, define_reward_model
from apo_jax.policy_step import make_policy_update
from apo_jax.reward_step import make_reward_update
from apo_jax.rows.rows import Response, row_length
from apo_jax.training.optimization import TrainState, Update, init_state, make_optimizer
from benchmarks.contestants import our_batches
from benchmarks.contestants.our_model import STEPS, TRAINING, mesh, policy_config, reward_config
from benchmarks.contestants.our_weights import SEED
from benchmarks.model import architecture

NO_KEY = np.zeros(2, np.uint32)  # of adapters, which there are none of

Run = Callable[[], dict[str, Any]]


def dpo(job: Mapping[str, Any]) -> Run:
  """A DPO step on `job["items"]`; the reference's log-probabilities are given, as in a round."""
  definition = define_policy(architecture(job["model"]), mesh())
  reference = _scorer(make_logprob_scorer, definition, job["items"])()
  reference = reference.reshape(len(job["items"]), -1)
  batch = our_batches.policy_batch(job["items"], reference)
  return _policy_step(definition, "dpo", batch)


def rrhf(job: Mapping[str, Any]) -> Run:
  """An RRHF step on `job["items"]`."""
  definition = define_policy(architecture(job["model"]), mesh())
  batch = our_batches.policy_batch(job["items"], None)
  zeros = np.zeros(batch.valid.shape, np.float32)
  return _policy_step(definition, "rrhf", batch._replace(reference_logprobs=zeros))


def sft(job: Mapping[str, Any]) -> Run:
  """A supervised step on every response of `job["items"]`, each a demonstration of its own."""
  definition = define_policy(architecture(job["model"]), mesh())
  single = [(query, [response]) for query, responses in job["items"] for response in responses]
  return _policy_step(definition, "rjs", our_batches.policy_batch(single, None))


def reward(job: Mapping[str, Any]) -> Run:
  """A reward step on `job["items"]`, the first response of each golden."""
  definition = define_reward_model(architecture(job["model"]), "eos", mesh())
  optimizer = make_optimizer(TRAINING, STEPS)
  update = make_reward_update(
    definition, optimizer, reward_config(), mesh(), num_samples=1, accumulation=1
  )
  state = init_state(definition, optimizer, definition.init(SEED))
  return _repeated(update, state, our_batches.reward_batch(job["items"]))


def reward_scores(job: Mapping[str, Any]) -> Run:
  """Rewards of all responses of `job["items"]`."""
  definition = define_reward_model(architecture(job["model"]), "eos", mesh())
  return _timed(_scorer(make_reward_scorer, definition, job["items"]))


def logprob_scores(job: Mapping[str, Any]) -> Run:
  """Log-probabilities of all responses of `job["items"]`."""
  definition = define_policy(architecture(job["model"]), mesh())
  return _timed(_scorer(make_logprob_scorer, definition, job["items"]))


def _policy_step(definition: Definition, method: str, batch: Any) -> Run:
  optimizer = make_optimizer(TRAINING, STEPS)
  config = policy_config(method)
  update = make_policy_update(definition, optimizer, config, mesh(), accumulation=1)
  state = init_state(definition, optimizer, definition.init(SEED))
  return _repeated(update, state, batch)


def _repeated(update: Update, state: TrainState, batch: Any) -> Run:
  """One update a run, each from the last one's state."""
  # The state is donated: nothing else may hold it, or two are in memory.
  held, batch = [state], jax.device_put(batch)

  def run() -> dict[str, Any]:
    began = time.perf_counter()
    state, metrics = update(held.pop(), batch, {}, NO_KEY)
    jax.block_until_ready((state, metrics))
    seconds = time.perf_counter() - began
    held.append(state)
    return {"seconds": seconds, "loss": float(metrics["loss"])}

  return run


def _scorer(make: Callable[..., Any], definition: Definition, items: Any) -> Callable[[], Any]:
  """All responses in one batch."""
  eos = items[0][1][0][-1]
  sequences = [(query, Response(ids[:-1])) for query, responses in items for ids in responses]
  length = max(row_length(query, [response]) for query, response in sequences)
  scorer = make(
    definition,
    mesh(),
    batch_size=len(sequences),
    query_length=max(len(query) for query, _ in items),
    lengths=(length,),
    eos=eos,
  )
  parameters = definition.init(SEED)
  return lambda: scorer(parameters, sequences)


def _timed(scores: Callable[[], np.ndarray]) -> Run:
  def run() -> dict[str, Any]:
    began = time.perf_counter()
    scores()
    return {"seconds": time.perf_counter() - began}

  return run
