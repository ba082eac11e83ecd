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
  result = getattr(objectives, case["objective"])(**arrays, **case["options"])
  if isinstance(result, tuple):
    return {"loss": result[0], **result[1]}
  if isinstance(result, dict):
    return result
  return {"accuracy" if case["objective"] == "preference_accuracy" else "loss": result}


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
