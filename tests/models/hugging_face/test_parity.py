"""Each family's logits, loss, gradients and greedy continuations equal those of transformers."""

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.config.schema import SamplerConfig
from apo_jax.inference.decoding import QueryBatch
from apo_jax.models.definition import Definition, Parameters, define_policy, define_reward_model
from apo_jax.models.hugging_face.importing import import_decoder, import_reward_head
from apo_jax.models.hugging_face.names import TensorName, reward_head_name, tensor_names
from tests import tiny
from tests.golden.hugging_face_weights import summary
from tests.models.hugging_face import cases
from tests.whole_samples import sample

SMOLLM2 = os.environ.get("APO_JAX_SMOLLM2", "")
NO_EOS = -1


def imported(directory: Path) -> tuple[Definition, Parameters]:
  checkpoint = cases.read(directory)
  definition = define_policy(checkpoint.architecture, tiny.mesh())
  return definition, import_decoder(checkpoint, definition.abstract, cases.FIELD)


class Case(NamedTuple):
  """A stored case and its imported policy."""

  golden: dict[str, Any]
  definition: Definition
  parameters: Parameters
  run: Callable  # see loss_and_logits


@pytest.fixture(scope="module", params=cases.COMPILED)
def case(request, tmp_path_factory) -> Case:
  directory = cases.write(tmp_path_factory.mktemp("checkpoint"), request.param)
  definition, parameters = imported(directory)
  return Case(cases.golden(request.param), definition, parameters, loss_and_logits(definition))


def loss_and_logits(definition: Definition):
  """Gives mean next-token loss, all logits and the loss's gradient, of parameters and tokens."""

  def loss(parameters, tokens):
    policy = definition.bind(parameters)
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    logits = policy.logits(policy(tokens, jnp.ones_like(tokens), positions)[0])
    logprobs = jax.nn.log_softmax(logits[:, :-1], axis=-1)
    return -jnp.mean(jnp.take_along_axis(logprobs, tokens[:, 1:, None], -1)), logits

  return jax.jit(jax.value_and_grad(loss, has_aux=True))


def continue_greedily(
  definition: Definition, parameters: Parameters, prompts: list[list[int]], new_tokens: int
) -> list[list[int]]:
  """The likeliest tokens, by the sampler and its cache."""
  width = max(map(len, prompts))
  queries = QueryBatch(
    jnp.array([prompt + [0] * (width - len(prompt)) for prompt in prompts]),
    jnp.array([len(prompt) for prompt in prompts]),
    jnp.zeros((len(prompts), 2), jnp.uint32),
  )
  settings = SamplerConfig(
    num_samples=1,
    max_new_tokens=new_tokens,
    temperature=0.0,
    top_k=0,
    top_p=1.0,
    repetition_penalty=1.0,
    stop=(),
  )

  def run(parameters, queries):
    known = definition.architecture.vocab_size
    policy = definition.bind(parameters)
    return sample(
      policy, queries, settings, ends={NO_EOS}, never_drawn=(), known_tokens=known, table=None
    )

  return np.asarray(jax.jit(run)(parameters, queries).tokens)[:, 0].tolist()


def assert_gradients_close(names: tuple[TensorName, ...], gradients: dict, golden: dict):
  found = cases.whole_tensors(names, gradients)
  assert found.keys() == golden["gradients"].keys()
  for tensor, gradient in found.items():
    np.testing.assert_allclose(
      summary(tensor, gradient), golden["gradients"][tensor], rtol=1e-4, atol=2e-5, err_msg=tensor
    )


def test_logits_loss_and_gradients(case):
  golden, definition, parameters, run = case
  architecture = definition.architecture
  tokens = jnp.array(golden["tokens"])
  (loss, logits), gradients = run(parameters, tokens)
  size = architecture.vocab_size
  np.testing.assert_allclose(logits[..., :size], golden["logits"], atol=1e-4, rtol=0)
  assert np.all(np.isneginf(logits[..., size:]))
  assert loss == pytest.approx(golden["loss"], abs=1e-5)
  names = tensor_names(architecture, golden["config"]["model_type"])
  assert_gradients_close(names, gradients, golden)
  table = np.asarray(gradients["embedding"])
  np.testing.assert_array_equal(table[size:], 0)


def test_greedy_continuations(case):
  golden, definition, parameters, run = case
  prompts, expected = golden["prompts"], golden["continuations"]
  new_tokens = len(expected[0])
  assert continue_greedily(definition, parameters, prompts, new_tokens) == expected
  # The same without a cache: each token is the likeliest behind those before it.
  width = np.shape(golden["tokens"])[1]
  rows = [a + b for a, b in zip(prompts, expected, strict=True)]
  padded = jnp.array([row + [0] * (width - len(row)) for row in rows])
  (_, logits), _ = run(parameters, padded)
  for row, prompt, continuation in zip(logits, prompts, expected, strict=True):
    start = len(prompt) - 1
    assert np.argmax(row[start : start + new_tokens], axis=-1).tolist() == continuation


def test_reward_model(tmp_path):
  golden = cases.golden(cases.REWARD)
  checkpoint = cases.read(cases.write(tmp_path, cases.REWARD))
  assert checkpoint.is_reward
  definition = define_reward_model(checkpoint.architecture, "eos", tiny.mesh())
  parameters = {
    "trunk": import_decoder(checkpoint, definition.abstract["trunk"], cases.FIELD),
    "reward_head": import_reward_head(checkpoint, definition.abstract["reward_head"], cases.FIELD),
  }
  tokens = jnp.array(golden["tokens"])
  slots = jnp.arange(tokens.shape[1])
  segments = (slots < jnp.array(golden["lengths"])[:, None]).astype(jnp.int32)

  @jax.jit
  @functools.partial(jax.value_and_grad, has_aux=True)
  def loss(parameters):
    positions = jnp.broadcast_to(slots, tokens.shape)
    rewards = definition.bind(parameters)(tokens, segments, positions, segments < 0)[:, 0]
    return jax.nn.softplus(rewards[1] - rewards[0]), rewards

  (value, rewards), gradients = loss(parameters)
  np.testing.assert_allclose(rewards, golden["rewards"], atol=1e-4, rtol=0)
  assert value == pytest.approx(golden["loss"], abs=1e-5)
  names = tensor_names(checkpoint.architecture, "llama", head=False)
  names += (reward_head_name(checkpoint.architecture),)
  flat = gradients["trunk"] | {"reward_head": gradients["reward_head"]}
  assert_gradients_close(names, flat, golden)


@pytest.mark.skipif(not SMOLLM2, reason="APO_JAX_SMOLLM2 names no directory of the real model")
def test_the_real_smollm2():
  golden = json.loads((cases.GOLDEN / "smollm2_135m_instruct.json").read_text())
  definition, parameters = imported(Path(SMOLLM2))
  tokens = jnp.array([golden["tokens"]])

  @jax.jit
  def logits_of(parameters):
    policy = definition.bind(parameters)
    hidden, _ = policy(tokens, jnp.ones_like(tokens), jnp.arange(tokens.shape[1])[None])
    return policy.logits(hidden)[0]

  logits = np.asarray(logits_of(parameters))
  top = np.take_along_axis(logits, np.array(golden["top_ids"]), axis=-1)
  np.testing.assert_allclose(top, golden["top_logits"], atol=5e-4, rtol=0)
  np.testing.assert_array_equal(np.argmax(logits, axis=-1), np.array(golden["top_ids"])[:, 0])
  logprobs = np.asarray(jax.nn.log_softmax(logits[:-1], axis=-1))
  chosen = np.take_along_axis(logprobs, np.array(golden["tokens"])[1:, None], axis=-1)[:, 0]
  np.testing.assert_allclose(chosen, golden["logprobs"], atol=5e-4, rtol=0)
  prompt, expected = golden["prompt_tokens"], golden["continuation"]
  assert continue_greedily(definition, parameters, [prompt], len(expected)) == [expected]
