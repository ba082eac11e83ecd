"""Weights of the tiny Hugging Face models, made from their names, so that no file stores them."""

import zlib

import numpy as np


def _normal(seed_text: str, shape: tuple[int, ...]) -> np.ndarray:
  """Standard normal numbers, from the one stream that NumPy promises never to change."""
  return np.random.RandomState(zlib.crc32(seed_text.encode())).standard_normal(shape)


def weights(name: str, shape: tuple[int, ...], norm_center: float) -> np.ndarray:
  """The tensor of this name, float32; norms vary around `norm_center`."""
  normal = _normal(name, shape)
  if "norm" in name:
    values = norm_center + 0.3 * normal
  elif name.endswith(".bias"):
    values = 0.5 * normal
  elif "embed_tokens" in name or "lm_head" in name:
    values = 0.3 * normal
  else:
    values = 1.5 * normal / np.sqrt(shape[-1])
  return values.astype(np.float32)


def summary(name: str, gradient: np.ndarray) -> list[float]:
  """A tensor's gradient in two numbers: its norm, and its product with a random direction."""
  gradient = np.asarray(gradient, np.float64)
  direction = _normal(f"{name} direction", gradient.shape) / np.sqrt(gradient.size)
  return [float(np.linalg.norm(gradient)), float(np.sum(gradient * direction))]
