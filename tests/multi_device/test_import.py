"""Import onto 8 devices: equal to one device's, and each part of the files is read once."""

import jax
import numpy as np
import pytest

from apo_jax.models.definition import define_policy, define_reward_model
from apo_jax.models.hugging_face.importing import TensorFiles, import_decoder, import_reward_head
from tests import tiny
from tests.models.hugging_face import cases

SLOW = ("gemma3_text", "phi3", "olmo3")


@pytest.mark.parametrize(
  "name", ["qwen2", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_a_policy(name, tmp_path, monkeypatch):
  checkpoint = cases.read(cases.write_sharded(tmp_path, name))
  reads, read = [], TensorFiles.read
  monkeypatch.setattr(TensorFiles, "read", lambda *args: reads.append(part := read(*args)) or part)

  def run(mesh):
    reads.clear()
    definition = define_policy(checkpoint.architecture, mesh)
    parameters = import_decoder(checkpoint, definition.abstract, cases.FIELD)
    assert jax.tree.map(lambda leaf: leaf.sharding, parameters) == definition.shardings
    return parameters, sum(part.nbytes for part in reads), max(part.nbytes for part in reads)

  one, one_bytes, one_largest = run(tiny.mesh())
  split, split_bytes, split_largest = run(tiny.mesh(2, 2, 2))
  jax.tree.map(np.testing.assert_array_equal, split, one)
  # Copies along the data axis are read once; the largest read is a shard of the largest tensor.
  assert split_bytes == one_bytes
  assert split_largest < one_largest


def test_a_reward_model(tmp_path):
  checkpoint = cases.read(cases.write(tmp_path, cases.REWARD))

  def run(mesh):
    abstract = define_reward_model(checkpoint.architecture, "eos", mesh).abstract
    trunk = import_decoder(checkpoint, abstract["trunk"], cases.FIELD)
    head = import_reward_head(checkpoint, abstract["reward_head"], cases.FIELD)
    assert head.sharding == abstract["reward_head"].sharding
    return trunk, head

  jax.tree.map(np.testing.assert_array_equal, run(tiny.mesh(2, 2, 2)), run(tiny.mesh()))
