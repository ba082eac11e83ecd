"""Values and gradients against tests/golden/objectives.json (see make_objectives.py beside it)."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax import objectives

CASES = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "objectives.json").read_text())
DTYPES = {"valid": jnp.bool_, "lengths": jnp.int32}


def outputs_of(case, arrays):
  """Returns the objective's outputs by the golden file's names."""
  name, options = case["objective"], case["options"]
  if name == "preference_accuracy":
    return {"accuracy": objectives.preference_accuracy(**arrays)}
  if name == "calibration_errors":
    return objectives.calibration_errors(**arrays, **options)
  if name == "ranking_loss":
    return {"loss": objectives.ranking_loss(**arrays, **options).mean}
  if name == "apo_reward_loss":
    return apo_outputs(arrays, **options)
  loss = {
    "rjs_loss": objectives.RejectionSampling,
    "rrhf_loss": objectives.RRHF,
    "dpo_loss": objectives.DPO,
  }[name](**options)
  responses = objectives.ScoredResponses(
    logprobs=arrays["logprobs" if "logprobs" in arrays else "policy_logprobs"],
    reference_logprobs=arrays.get("reference_logprobs"),
    lengths=arrays.get("lengths", jnp.ones_like(arrays["valid"], jnp.int32)),
    rewards=arrays["rewards"],
    valid=arrays["valid"],
  )
  sums = loss(responses)
  metrics = {metric: total / jnp.maximum(sums.count, 1) for metric, total in sums.metrics.items()}
  return {"loss": sums.mean, **metrics}


def apo_outputs(arrays, num_samples, apo_coefficient, **options):
  """Returns the outputs of the min player's loss; `apo` is what the paper's code calls golden."""
  loss = objectives.APO(golden_coefficient=apo_coefficient, **options)
  rewards = objectives.ScoredRewards(
    arrays["preference_rewards"],
    arrays["preference_scores"],
    arrays["apo_rewards"],
    arrays["apo_scores"],
  )
  sums = loss(rewards)
  totals, counts = ({name: one[part] for name, one in sums.items()} for part in (0, 1))
  value, means = loss.combine(totals, counts, num_samples=num_samples)
  return {"loss": value, "preference_loss": means["preference"], "apo_loss": means["golden"]}


def name_of(case):
  options = [str(value) for value in case["options"].values() if not isinstance(value, float)]
  return "-".join([case["objective"], *options])


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_golden(case):
  arrays = {
    name: jnp.asarray(values, DTYPES.get(name, jnp.float32))
    for name, values in case["arrays"].items()
  }

  def loss_and_outputs(differentiated):
    outputs = outputs_of(case, {**arrays, **differentiated})
    return outputs.get("loss", 0.0), outputs

  differentiated = {name: arrays[name] for name in case["gradients"]}
  gradients, outputs = jax.jit(jax.grad(loss_and_outputs, has_aux=True))(differentiated)

  assert outputs.keys() == case["outputs"].keys()
  for name, expected in case["outputs"].items():
    assert outputs[name].dtype == jnp.float32
    # null in the file is nan: an empty bin.
    expected = np.array(expected, dtype=float)
    np.testing.assert_allclose(outputs[name], expected, rtol=1e-5, atol=1e-6, err_msg=name)
  for name, expected in case["gradients"].items():
    np.testing.assert_allclose(gradients[name], expected, rtol=1e-4, atol=1e-6, err_msg=name)
