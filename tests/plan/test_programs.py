"""What a plan says of the tiny game, against counts by hand and against its unrolled self."""

import functools

import jax
import pytest

from apo_jax.inference.sampler import STEPS_A_CALL
from apo_jax.models import model_flops, row_cost
from apo_jax.models.architecture import architecture_from_shape
from apo_jax.models.block_attention import attended_pairs
from apo_jax.plan.descriptions import describe_codec, read_described
from apo_jax.plan.devices import torus_coordinates
from apo_jax.plan.measure import measure
from apo_jax.plan.programs import device_bytes, programs
from apo_jax.plan.round_work import round_work
from apo_jax.run.models import make_models
from apo_jax.run.origins import find_origins
from tests import checkpoints, tiny

STEPS = ("reward step", "policy step")
DECODE = f"sample: {STEPS_A_CALL} tokens"
# remat "none": the backward pass computes nothing again.
EXACT = {"model__remat": "none", "model__shape__layers": 3}


@pytest.fixture(scope="module", autouse=True)
def shared_rows():
  """Responses share rows, which would not pay in a model this small."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(row_cost, "SOFTMAX_FLOPS", 0.0)
    yield


@functools.cache
def measured(name, **overrides):
  """One program of the tiny game, compiled once, and the config that has it."""
  config = tiny.config(**EXACT | overrides)
  mesh = tiny.mesh()
  with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    return measure(listed(config)[name], torus_coordinates(mesh)), config


def listed(config):
  """The programs of a round by name."""
  models = models_of(config)
  codec = describe_codec(config, models.origins.policy)
  found = programs(config, models, codec, round_work(config))
  return {program.name: program for program in found}


def models_of(config):
  return make_models(config, find_origins(config, read_described), tiny.mesh())


def products(config, rows, length, logits):
  """FLOPs of a forward pass by hand, with all pairs of slots that attention computes."""
  shape = config.model.shape
  heads, kv_heads = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
  tokens = rows * length
  layer = 2 * tokens * shape.embed_dim * (2 * heads + 2 * kv_heads + 3 * shape.mlp_dim)
  attention = 2 * attention_logits(config, rows, length)
  vocabulary = architecture_from_shape(config.model, config.tokenizer.vocab_size).vocab_rows
  return shape.layers * layer + attention + 2 * rows * logits * shape.embed_dim * vocabulary


def attention_logits(config, rows, length):
  """FLOPs of attention's logits in all layers, which its backward pass computes again."""
  shape = config.model.shape
  return shape.layers * 2 * rows * attended_pairs(length) * shape.heads * shape.head_dim


def step_batches(config):
  """Rows and their length of what each step reads."""
  golden = shared_length(config, 1 + config.sampling.training.num_samples)
  pair = shared_length(config, 2)
  return {
    "reward step": [
      (config.reward.preference_batch_size, pair),
      (config.reward.training.batch_size, golden),
    ],
    "policy step": [(config.policy.training.batch_size, pair)],
  }


def shared_length(config, num_responses):
  """Of a row of a query and so many responses of 24 tokens each."""
  response = config.data.row_length - config.data.query_length
  assert response == config.sampling.training.max_new_tokens + 1 == 24
  return config.data.query_length + 24 * num_responses


def test_scoring_is_a_forward_pass_over_shared_rows():
  """Rewards of all samples, log-probabilities of the best and the worst."""
  for name, scored, logits in (("score rewards", 4, False), ("score logprobs", 2, True)):
    found, config = measured(name)
    rows, length = config.evaluation.batch_size // scored, shared_length(config, scored)
    expected = products(config, rows, length, logits * (length - 1))
    assert found.costs.flops == pytest.approx(expected, rel=0.02)


@pytest.mark.slow
def test_a_step_is_three_forward_passes():
  for name, logits in (("reward step", False), ("policy step", True)):
    found, config = measured(name, policy__loss="dpo")
    batches = step_batches(config)[name]
    expected = sum(
      3 * products(config, rows, length, logits * (length - 1))
      + attention_logits(config, rows, length)
      for rows, length in batches
    )
    assert found.costs.flops == pytest.approx(expected, rel=0.02)


def test_model_flops_count_the_pairs_that_are_seen():
  """By hand: a query of 2 and two responses of 3 see 3 + 2 * (2 * 3 + 6) pairs, not all 36."""
  assert model_flops.seen_pairs(2, 2, 3.0) == 27
  architecture = tiny.architecture()
  both = model_flops.forward_flops(architecture, 1, 8, 0, 27.0)
  plain = model_flops.forward_flops(architecture, 1, 8, 0)
  assert plain - both == model_flops.attention_flops(architecture, 9.0)


@pytest.mark.slow
def test_rematerialisation_costs_a_forward_pass_of_the_layers():
  plain, config = measured("reward step")
  again, _ = measured("reward step", model__remat="full")
  batches = step_batches(config)["reward step"]
  forward = sum(products(config, rows, length, 0) for rows, length in batches)
  # Each layer's last product is not needed again.
  assert again.costs.flops == pytest.approx(4 * forward, rel=0.05)
  assert again.program.flops == plain.program.flops
  assert again.temporaries < plain.temporaries
  assert config.model.remat == "none"


@pytest.mark.parametrize(
  "name",
  [*(pytest.param(name, marks=pytest.mark.slow) for name in (*STEPS, DECODE, "sample: read"))],
)
def test_a_program_counts_as_its_unrolled_self(name, monkeypatch):
  scanned, _ = measured(name)
  monkeypatch.setattr(jax.lax, "scan", functools.partial(jax.lax.scan, unroll=True))
  jax.clear_caches()
  unrolled, config = measured.__wrapped__(name)
  # There the compiler takes attention's logits from the forward pass.
  again = sum(attention_logits(config, *rows) for rows in step_batches(config).get(name, []))
  assert unrolled.costs.flops + again == pytest.approx(scanned.costs.flops, rel=0.01)


@pytest.mark.slow
def test_micro_batches_change_the_memory_and_not_the_work():
  whole, _ = measured("policy step")
  parts, _ = measured("policy step", policy__training__accumulation=4)
  assert parts.costs.flops == pytest.approx(whole.costs.flops, rel=0.01)
  assert parts.temporaries < whole.temporaries


def test_decoding_is_a_pass_over_the_weights_a_token():
  found, config = measured(DECODE)
  rows = config.sampling.batch_size * config.sampling.training.num_samples
  tokens = STEPS_A_CALL * products(config, rows, 1, 1)
  assert tokens <= found.costs.flops <= 1.6 * tokens  # and attention to the cache
  weights = sum(
    leaf.size * 4 for leaf in jax.tree.leaves(models_of(config).policy.abstract["layers"])
  )
  assert found.costs.bytes >= STEPS_A_CALL * weights


def test_sampling_calls_by_hand():
  _, config = measured("sample: read", sampling__training__max_new_tokens=18)
  calls = {name: program.calls for name, program in listed(config).items()}
  assert calls["sample: read"] == 4  # 16 golden queries and 16 queries, half a batch of 16 a call
  assert calls[DECODE] == 2 * 3  # 17 tokens after the first, of two batches


@pytest.mark.slow
def test_memory_is_what_the_arguments_are():
  found, config = measured("policy step")
  models = models_of(config)
  policy, reward = (
    sum(leaf.size * 4 for leaf in jax.tree.leaves(model.abstract))
    for model in (models.policy, models.reward)
  )
  # Parameters and two moments, beside a small batch.
  assert 3 * policy <= found.arguments <= 3.2 * policy
  # What the round started from, and the other player.
  assert found.program.kept == policy + reward
  assert found.needed >= found.arguments + policy + reward
  # Which wait on the host if asked to.
  parked, _ = measured("policy step", memory__park_idle_player=True)
  assert parked.program.kept == 0 and parked.needed < found.needed


def test_a_judge_of_its_own_has_programs_of_its_own():
  twin, own = listed(tiny.config()), listed(tiny.config(testing_reward__shape=tiny.JUDGE))
  added = {"score rewards: judge", "evaluate rewards: judge"}
  assert own.keys() - twin.keys() == added
  for name in ("score rewards", "evaluate rewards"):
    ours, theirs = own[name], own[f"{name}: judge"]
    assert ours.calls + theirs.calls == twin[name].calls
    assert theirs.flops < ours.flops == twin[name].flops
    assert theirs.kept >= ours.kept > 0


def test_frozen_weights_are_counted_once_in_their_type(tmp_path):
  """Beside a sampler that has merged a copy all of the policy waits; one that has not holds it."""
  checkpoint = str(checkpoints.write(tmp_path / "checkpoint"))
  adapters = {f"{player}__lora__rank": 2 for player in ("policy", "reward")}

  def sizes(frozen_dtype):
    config = tiny.config(
      model__checkpoint=checkpoint,
      model__compute_dtype="bfloat16",
      model__frozen_dtype=frozen_dtype,
      **adapters,
    )
    models = models_of(config)
    trained, frozen = models.policy.split(models.policy.abstract)
    reward = device_bytes(models.reward.trained)
    return device_bytes(trained), device_bytes(frozen), reward, listed(config)[DECODE].kept

  trained, frozen, reward, kept = sizes("float32")
  assert kept == trained + frozen + reward
  assert sizes("bfloat16") == (trained, frozen / 2, reward, reward)
  _, small, _, kept = sizes("nf4")
  # 4 bits and a float32 scale of 32 inputs (8 of an attention head); the embedding has 16 bits.
  assert small < 0.3 * frozen and kept == reward
