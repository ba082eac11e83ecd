"""A round of adversarial preference optimization on one page.

    python examples/game.py

A policy learns to answer from imperfect demonstrations, and a reward model from noisy preferences.
Then they play: the reward model learns to tell golden answers from the policy's, and the policy
learns from what the reward model says of its answers. The world is small and made up, so that the
true utility of every answer is known. `python -m apo_jax.main` plays whole games: over rounds and
devices, on real models and data, with checkpoints, evaluations and a report.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

import apo_jax as apo

SEED, NUM_SAMPLES, QUERY_LENGTH, RESPONSE_LENGTH, BATCH_SIZE = 0, 4, 30, 24, 32
SHAPE = apo.ShapeConfig(layers=2, embed_dim=96, heads=4, kv_heads=2, head_dim=24, mlp_dim=256)
SAMPLER = apo.SamplerConfig(NUM_SAMPLES, max_new_tokens=RESPONSE_LENGTH - 1, stop=("\n\nHuman",))
CONFIG = apo.Config(
  model=apo.ModelConfig(shape=SHAPE, compute_dtype="float32"),
  data=apo.DataConfig(query_length=QUERY_LENGTH, row_length=QUERY_LENGTH + RESPONSE_LENGTH),
)
random = np.random.default_rng(SEED)

# The world's texts, and the same as token ids: query and responses of every record.
sizes = {"num_preferences": 1024, "num_golden": 512, "num_queries": 512, "num_test": 256}
world = apo.toy_world(SEED, num_demonstrations=6400, **sizes)
texts = [text for record in world.demonstrations for text in (record.query, record.response)]
codec = apo.make_codec(apo.train_tokenizer(texts, vocab_size=512), CONFIG, vocab_size=512)
data = apo.tokenise(codec, world)

# Two players. A model is a definition, which is static, and parameters, which are not.
mesh = apo.make_mesh(apo.MeshConfig(data=jax.device_count()))
architecture = apo.architecture_from_shape(CONFIG.model, vocab_size=512)
policy = apo.define_policy(architecture, mesh)
reward_model = apo.define_reward_model(architecture, "last", mesh)

# A policy's samples, and what models say of them.
draw = apo.Sampler(policy, codec, mesh, buckets=(QUERY_LENGTH,), batch_size=64)
lengths = (QUERY_LENGTH + RESPONSE_LENGTH,)
shape = {"batch_size": 128, "query_length": QUERY_LENGTH, "lengths": lengths, "eos": codec.eos}
make_reward_update = functools.partial(apo.make_reward_update, num_samples=NUM_SAMPLES)
rewards_of = apo.make_reward_scorer(reward_model, mesh, **shape)
logprobs_of = apo.make_logprob_scorer(policy, mesh, **shape)


def rows(items: Sequence[apo.Item]) -> apo.Rows:
  """A row an item: a query, then all responses to it, none of which sees the others."""
  length = QUERY_LENGTH + len(items[0][1]) * RESPONSE_LENGTH
  return apo.make_shared_rows(items, length, codec.eos)


def batches(size: int, count: int) -> Iterator[np.ndarray]:
  """The indices of `count` batches: all items in a random order, then in another."""
  indices = itertools.chain.from_iterable(random.permutation(size) for _ in itertools.count())
  for _ in range(count):
    yield np.fromiter(indices, int, BATCH_SIZE)


def train(make_update, definition, parameters, loss, learning_rate: float, inputs: Sequence[Any]):
  """The parameters after an update with every batch."""
  training = apo.TrainingConfig(learning_rate=learning_rate, warmup_steps=8)
  optimizer = apo.make_optimizer(training, total_steps=len(inputs))
  update = make_update(definition, optimizer, loss, mesh)
  state, no_dropout = apo.init_state(definition, optimizer, parameters), np.zeros(2, np.uint32)
  for batch in inputs:
    state, metrics = update(state, batch, {}, no_dropout)  # {}: no parameter is frozen
  print(f"  {len(inputs)} updates, the last with a loss of {metrics['loss']:.3f}")
  return state.parameters


def answer(parameters, asked, purpose: str) -> list[list[apo.Response]]:
  """The policy's answers to every query."""
  seeds = np.array([apo.derive_key(SEED, purpose, one.record.query_id) for one in asked])
  drawn = draw(parameters, [one.query for one in asked], seeds, SAMPLER)
  return [[sample.response for sample in samples] for samples in drawn]


def score(scorer, parameters, asked, answers) -> np.ndarray:
  """A number an answer, Float32[queries, samples]."""
  both = zip(asked, answers, strict=True)
  pairs = [(one.query, response) for one, few in both for response in few]
  return scorer(parameters, pairs).reshape(len(asked), NUM_SAMPLES)


def utility(parameters) -> float:
  """How good the policy's answers truly are, to queries that nobody was trained on."""
  utilities = []
  for one, few in zip(data.test.golden, answer(parameters, data.test.golden, "test"), strict=True):
    texts = [codec.decode(response.tokens) for response in few]
    utilities += [world.utility(one.record.query, text) for text in texts]
  return np.mean(utilities)


print("The supervised start: the policy imitates the demonstrations.")
inputs, no_rewards, all_valid = [], np.zeros((BATCH_SIZE, 1)), np.ones((BATCH_SIZE, 1), bool)
for chosen in batches(len(data.demonstrations), count=200):
  items = [data.demonstrations[index].item for index in chosen]
  inputs.append(apo.PolicyBatch(rows(items), no_rewards, None, all_valid))
parameters, loss = policy.init(SEED), apo.MaximumLikelihood()
start = train(apo.make_policy_update, policy, parameters, loss, 4e-3, inputs)

print("The base of the reward model: the policy with another head learns the preferences.")
preferences = data.reward.preferences


def preferred(chosen: np.ndarray) -> tuple[apo.Rows, np.ndarray]:
  """Rows of some preferences, two responses each, and the scores that say which is better."""
  some = [preferences[index] for index in chosen]
  return rows([one.item for one in some]), np.array([one.record.scores for one in some])


inputs = [apo.RewardBatch(*preferred(chosen)) for chosen in batches(len(preferences), count=64)]
parameters, loss = reward_model.init(SEED) | {"trunk": apo.trunk_of(start)}, apo.APO()
base = train(make_reward_update, reward_model, parameters, loss, 1e-3, inputs)

print("The min step: golden answers above the policy's, beside the preferences.")
golden = data.reward.golden
answers = answer(start, golden, "golden")
inputs = []
for chosen, beside in zip(batches(len(golden), 16), batches(len(preferences), 16), strict=True):
  items = [(golden[index].query, [*golden[index].responses, *answers[index]]) for index in chosen]
  # A sample that is the golden answer, token for token, is no pair: its score is that of padding.
  keys = [(golden[i].responses[0].key, [one.key for one in answers[i]]) for i in chosen]
  twins = np.array([[key == one for one in few] for key, few in keys], np.float32)
  scores = np.hstack([np.ones((BATCH_SIZE, 1)), -twins])
  inputs.append(apo.RewardBatch(*preferred(beside), rows(items), scores, twins.sum(axis=1)))
loss = apo.APO(golden_coefficient=1.0)
adversary = train(make_reward_update, reward_model, base, loss, 1e-3, inputs)

print("The max step: the policy learns from its own answers, by the rewards they get.")
queries = data.policy.queries
answers = answer(start, queries, "policy")
rewards = score(rewards_of, adversary, queries, answers)
reference = score(logprobs_of, start, queries, answers)
# What says nothing, or did not end, is not learnt from; equal answers have one reward, so no pair.
whole = np.array([[len(one.tokens) > 0 and one.finished for one in few] for few in answers])
inputs = []
for chosen in batches(len(queries), count=32):
  items = [(queries[index].query, answers[index]) for index in chosen]
  inputs.append(apo.PolicyBatch(rows(items), rewards[chosen], reference[chosen], whole[chosen]))
end = train(apo.make_policy_update, policy, start, apo.DPO(beta=0.1), 3e-4, inputs)

print(f"True utility: {utility(start):.3f} before the round, {utility(end):.3f} after it.")
