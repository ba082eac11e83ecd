"""Policy losses against plain loops (golden/methods.json) and authors' code (golden/authors.json).

make_methods.py and make_authors.py beside those files wrote them.
"""

import functools
import json
import pathlib

import jax
import numpy as np
import pytest

from apo_jax.objectives import PolicyLoss, ScoredResponses

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
LOOPS = json.loads((GOLDEN / "methods.json").read_text())
AUTHORS = json.loads((GOLDEN / "authors.json").read_text())
DTYPES = {"valid": np.bool_, "lengths": np.int32}
# golden/objectives.json has the first, published_losses.json the next; the last has a closed form.
ELSEWHERE = (*("dpo", "rjs", "rrhf"), *("spin", "relative_po"), "sequential_po")


LOOP_CASES = [{"code": "loop", "arrays": LOOPS["arrays"], **case} for case in LOOPS["cases"]]
CASES = [*LOOP_CASES, *AUTHORS["cases"]]


def name_of(case):
  options = [str(value) for value in case["options"].values() if not isinstance(value, float)]
  return "-".join([case["code"].split()[0], case["objective"], *options])


@functools.cache
def found():
  """The value and gradient of every case, of one program."""

  def outcome(case, responses):
    loss = PolicyLoss.known[case["objective"]](**case["options"])

    def of_logprobs(logprobs):
      return loss(responses._replace(logprobs=logprobs)).mean

    return jax.value_and_grad(of_logprobs)(responses.logprobs)

  def responses(arrays):
    typed = {name: np.asarray(each, DTYPES.get(name, np.float32)) for name, each in arrays.items()}
    return ScoredResponses(**typed)

  @jax.jit
  def outcomes(read):
    return [outcome(case, one) for case, one in zip(CASES, read, strict=True)]

  return outcomes([responses(case["arrays"]) for case in CASES])


@pytest.mark.parametrize("index", range(len(CASES)), ids=[name_of(case) for case in CASES])
def test_golden(index):
  case, (value, gradient) = CASES[index], found()[index]
  np.testing.assert_allclose(value, case["loss"], rtol=1e-5, atol=1e-6)
  if case["gradient"] is not None:
    np.testing.assert_allclose(gradient, case["gradient"], rtol=2e-4, atol=2e-6)


def test_every_loss_is_in_the_files():
  assert {*(case["objective"] for case in CASES), *ELSEWHERE} >= set(PolicyLoss.known)


def test_every_loss_is_in_the_documentation():
  table = (GOLDEN.parents[1] / "docs" / "losses.md").read_text()
  for name in PolicyLoss.known:
    assert f"\n| `{name}` |" in table, name
