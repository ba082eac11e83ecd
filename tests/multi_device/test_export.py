"""Parameters split over 8 devices are exported as those of one device are."""

from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from safetensors.numpy import load_file

from apo_jax.config.schema import LoraConfig
from apo_jax.export.peft import adapter_tensors
from apo_jax.export.weights import policy_tensors, write_weights
from apo_jax.models.definition import define_policy
from apo_jax.models.hugging_face.importing import import_decoder
from tests import tiny
from tests.models.hugging_face import cases

LORA = LoraConfig(rank=2, alpha=4.0, dropout=0.0, modules=("query", "output", "down"))


def test_what_was_split_is_written_whole(tmp_path):
  source = cases.write(tmp_path / "source", "gemma2")
  checkpoint = cases.read(source)
  definition = define_policy(checkpoint.architecture, tiny.mesh(2, 2, 2))
  parameters = import_decoder(checkpoint, definition.abstract, cases.FIELD)
  write_weights(tmp_path, policy_tensors(parameters, definition, "gemma2", "float32"))
  written, read = (load_file(path / "model.safetensors") for path in (tmp_path, source))
  assert written.keys() == read.keys()
  for name, values in read.items():
    np.testing.assert_array_equal(written[name], values, err_msg=name)


@pytest.mark.slow
def test_adapters_that_were_split(tmp_path):
  """Merged and alone, on 8 devices and on one."""

  def write(mesh: Mesh, directory: Path) -> dict[str, np.ndarray]:
    directory.mkdir()
    definition = define_policy(tiny.architecture(), mesh, LORA)
    parameters = definition.init(0)
    layers = {
      name: leaf + 0.1 if name.startswith("lora_") else leaf
      for name, leaf in parameters["layers"].items()
    }
    parameters = jax.device_put(parameters | {"layers": layers}, definition.shardings)
    trained, _ = definition.split(parameters)
    write_weights(directory, policy_tensors(parameters, definition, "llama", "float32"))
    adapters = adapter_tensors(trained, definition, "llama", "float32")
    write_weights(directory, adapters, "adapter_model")
    merged, alone = (load_file(path) for path in sorted(directory.glob("*.safetensors")))
    return merged | alone

  split, one = write(tiny.mesh(2, 2, 2), tmp_path / "8"), write(tiny.mesh(), tmp_path / "1")
  assert split.keys() == one.keys()
  for name, values in one.items():
    np.testing.assert_allclose(split[name], values, atol=1e-6, err_msg=name)
