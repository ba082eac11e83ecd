"""Devices that are not there: how they are asked for."""

import importlib.util
import os

import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.plan.devices import find_devices


@pytest.mark.parametrize("topology", ["h100", "h100:", "h100:two", "h100:0"])
def test_gpus_are_counted(topology):
  with pytest.raises(ConfigError, match=f"--topology is '{topology}'; behind the colon"):
    find_devices(topology)


def test_gpus_need_their_compiler(monkeypatch):
  if importlib.util.find_spec("jax_plugins"):
    pytest.skip("a plugin is installed")
  monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
  with pytest.raises(ConfigError, match=r"CUDA plugin compiles.*pip install 'apo_jax\[cuda\]'"):
    find_devices("h100:1")
