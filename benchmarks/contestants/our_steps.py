"""Our updates and scorers as contestants."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax

from apo_jax.inference.scoring import make_logprob_scorer, make_reward_scorer
from apo_jax.models.definition import Definition, define_policy, define_reward_model
from apo_jax.objectives import APO, DPO, RRHF, MaximumLikelihood, PolicyLoss
from apo_jax.policy_step import make_policy_update
from apo_jax.reward_step import make_reward_update
from apo_jax.rows.rows import Response, row_length
from apo_jax.training.optimization import init_state, make_optimizer
from apo_jax.training.update import Update, lower_update
from benchmarks.contestants import our_batches, our_parameters
from benchmarks.contestants.our_model import STEPS, TRAINING, mesh
from benchmarks.model import adapters, architecture

NO_KEY = np.zeros(2, np.uint32)  # of adapters' dropout, which there is none of

Run = Callable[[], dict[str, Any]]


def dpo(job: Mapping[str, Any]) -> Run:
  """A DPO step on `job["items"]`; the reference's log-probabilities are given, as in a round.

  Where `job["zero_reference"]` is true they are zeros, which spares a program and changes no step.
  """
  definition = define_policy(architecture(job["model"]), mesh(), adapters(job["model"]))
  reference = np.zeros((len(job["items"]), len(job["items"][0][1])), np.float32)
  if not job.get("zero_reference"):
    scores = _scorer(make_logprob_scorer, definition, job["items"])()
    reference = scores.reshape(reference.shape)
  batch = our_batches.policy_batch(job["items"], reference)
  return policy_step(definition, DPO(), batch)


def rrhf(job: Mapping[str, Any]) -> Run:
  """An RRHF step on `job["items"]`."""
  definition = define_policy(architecture(job["model"]), mesh())
  batch = our_batches.policy_batch(job["items"], None)
  zeros = np.zeros(batch.valid.shape, np.float32)
  return policy_step(definition, RRHF(), batch._replace(reference_logprobs=zeros))


def sft(job: Mapping[str, Any]) -> Run:
  """A supervised step on every response of `job["items"]`, each a demonstration of its own."""
  definition = define_policy(architecture(job["model"]), mesh())
  single = [(query, [response]) for query, responses in job["items"] for response in responses]
  return policy_step(definition, MaximumLikelihood(), our_batches.policy_batch(single, None))


def reward(job: Mapping[str, Any]) -> Run:
  """A reward step on `job["items"]`, the first response of each golden."""
  model = job["model"]
  definition = define_reward_model(architecture(model), "eos", mesh(), adapters(model))
  optimizer = make_optimizer(TRAINING, STEPS)
  update = make_reward_update(definition, optimizer, APO(), mesh(), num_samples=1)
  return _repeated(update, definition, optimizer, our_batches.reward_batch(job["items"]))


def reward_scores(job: Mapping[str, Any]) -> Run:
  """Rewards of all responses of `job["items"]`."""
  definition = define_reward_model(architecture(job["model"]), "eos", mesh())
  return _timed(_scorer(make_reward_scorer, definition, job["items"]))


def logprob_scores(job: Mapping[str, Any]) -> Run:
  """Log-probabilities of all responses of `job["items"]`."""
  definition = define_policy(architecture(job["model"]), mesh())
  return _timed(_scorer(make_logprob_scorer, definition, job["items"]))


def policy_step(definition: Definition, loss: PolicyLoss, batch: Any) -> Run:
  """A policy step on a batch, with any loss."""
  optimizer = make_optimizer(TRAINING, STEPS)
  update = make_policy_update(definition, optimizer, loss, mesh())
  return _repeated(update, definition, optimizer, batch)


def policy_step_memory(definition: Definition, loss: PolicyLoss, batch: Any) -> int:
  """Bytes that the compiled step takes beside its state and batch."""
  optimizer = make_optimizer(TRAINING, STEPS)
  update = make_policy_update(definition, optimizer, loss, mesh())
  compiled = lower_update(update, definition, optimizer, batch).compile()
  return compiled.memory_analysis().temp_size_in_bytes


def _repeated(
  update: Update, definition: Definition, optimizer: optax.GradientTransformation, batch: Any
) -> Run:
  """One update a run, each from the last one's state."""
  trained, frozen = definition.split(our_parameters.make(definition))
  # The state is donated: nothing else may hold it, or two are in memory.
  held, batch = [init_state(definition, optimizer, trained)], jax.device_put(batch)
  del trained

  def run() -> dict[str, Any]:
    began = time.perf_counter()
    state, metrics = update(held.pop(), batch, frozen, NO_KEY)
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
  parameters = our_parameters.make(definition)
  return lambda: scorer(parameters, sequences)


def _timed(scores: Callable[[], np.ndarray]) -> Run:
  def run() -> dict[str, Any]:
    began = time.perf_counter()
    scores()
    return {"seconds": time.perf_counter() - began}

  return run
