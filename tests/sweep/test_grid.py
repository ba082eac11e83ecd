"""The grid that flags describe, and what is said of flags that describe none."""

import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.sweep.grid import make_grid, split_outside


def names(sets, seeds=None):
  return [cell.name for cell in make_grid(sets, seeds)]


def test_a_grid_is_the_product_and_seeds_vary_fastest():
  assert names(["policy.loss=rjs,dpo", "rounds=1,2"], "2") == [
    f"policy.loss={loss},rounds={rounds},seed={seed}"
    for loss in ("rjs", "dpo")
    for rounds in (1, 2)
    for seed in (0, 1)
  ]
  assert names(["policy.loss=rjs"], "7,") == ["policy.loss=rjs,seed=7"]
  assert names([], "3,7") == ["seed=3", "seed=7"]
  assert names([]) == ["run"]


def test_fields_vary_together():
  cells = make_grid(["reward.mode,policy.start=adversarial:previous,fixed:base"], None)
  assert [cell.overrides for cell in cells] == [
    {"reward.mode": "adversarial", "policy.start": "previous"},
    {"reward.mode": "fixed", "policy.start": "base"},
  ]


def test_tuples_and_quoted_text_are_one_value():
  cells = make_grid(["evaluation.evaluations=(),('a','b'),['c']", "x='a,b',"], None)
  given = [tuple(cell.overrides.values()) for cell in cells]
  assert given == [(a, b) for a in ("()", "('a','b')", "['c']") for b in ("a,b", "")]
  assert all("/" not in cell.name and "'" not in cell.name for cell in cells)
  assert split_outside("a:(b:c):'d:e'", ":") == ["a", "(b:c)", "'d:e'"]


def test_a_name_is_a_directory_within_the_sweep():
  assert names(["data.queries=../other/q.jsonl,hf://a/b"]) == [
    "data.queries=.._other_q.jsonl",
    "data.queries=hf_a_b",
  ]
  # A config file by its name, with what is passed to it.
  assert names(["config=configs/a.py,b/c.py:toy"]) == ["config=a", "config=c_toy"]


@pytest.mark.parametrize(
  ("sets", "seeds", "said"),
  [
    (["policy.loss"], None, "policy.loss=rjs,rrhf,dpo"),
    (["=1"], None, "must be FIELD=VALUE"),
    (["config.policy.loss=rjs"], None, "without 'config.', such as policy.loss"),
    (["policy.loss=rjs,rjs"], None, "has 'rjs' twice"),
    (["rounds=1", "rounds=2"], None, "rounds more than once"),
    (["seed=1"], "2", "--seeds and --set name seed"),
    (["a,b=1:2,3"], None, "'3' must be 2 values"),
    ([], "0", "--seeds is '0'"),
    ([], "2,2", "--seeds is '2,2'"),
    ([], "-1", "--seeds is '-1'"),
    ([], "1,x", "--seeds is '1,x'"),
    ([f"x={'y' * 300}"], None, "302 characters"),
    (["config=a/x.py,b/x.py"], None, "Two runs would be called 'config=x'"),
    (["x=a/b,a*b"], None, "Two runs would be called 'x=a_b'"),
  ],
)
def test_what_is_no_grid_is_refused(sets, seeds, said):
  with pytest.raises(ConfigError) as error:
    make_grid(sets, seeds)
  assert said in str(error.value)
