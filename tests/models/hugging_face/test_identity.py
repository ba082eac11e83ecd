import shutil

import pytest

from apo_jax.models.hugging_face.identity import checkpoint_sha256
from tests import checkpoints


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  return checkpoints.write(tmp_path_factory.mktemp("checkpoints") / "model")


def test_a_copy_is_the_same_checkpoint(checkpoint, tmp_path):
  copy = shutil.copytree(checkpoint, tmp_path / "copy")
  assert checkpoint_sha256(copy) == checkpoint_sha256(checkpoint)


@pytest.mark.parametrize("seed", [1, 2])
def test_other_weights_of_the_same_shapes_are_another(checkpoint, tmp_path, seed):
  assert checkpoint_sha256(checkpoints.write(tmp_path, seed=seed)) != checkpoint_sha256(checkpoint)


def test_another_config_is_another(checkpoint, tmp_path):
  copy = shutil.copytree(checkpoint, tmp_path / "copy")
  config = copy / "config.json"
  config.write_text(config.read_text().replace("10000.0", "20000.0"))
  assert checkpoint_sha256(copy) != checkpoint_sha256(checkpoint)


def test_the_end_of_a_large_file_counts(tmp_path):
  (tmp_path / "config.json").write_text("{}")
  weights = tmp_path / "model.safetensors"
  weights.write_bytes(bytes(10_000_000))
  before = checkpoint_sha256(tmp_path)
  with weights.open("r+b") as file:
    file.seek(-1, 2)
    file.write(b"\x01")
  assert checkpoint_sha256(tmp_path) != before


def test_other_ends_of_a_response_are_another(tmp_path):
  (tmp_path / "config.json").write_text("{}")
  before = checkpoint_sha256(tmp_path)
  (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 5]}')
  assert checkpoint_sha256(tmp_path) != before
