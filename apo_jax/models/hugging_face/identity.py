"""Which weights a checkpoint holds, in a few bytes."""

import hashlib
from pathlib import Path

from apo_jax.models.hugging_face.config import CONFIG_FILE, GENERATION_FILE

# So many blocks of each file are read, evenly spaced, its first and last among them: other weights
# of the same shapes differ in all of them, and a large model is looked at in a moment.
_BLOCKS = 64
_BLOCK_BYTES = 65536


def checkpoint_sha256(directory: Path) -> str:
  """A hash of the checkpoint's configs, and of samples of its safetensors files.

  generation_config.json, where there is one, says what ends a response.
  """
  digest = hashlib.sha256((directory / CONFIG_FILE).read_bytes())
  generation = directory / GENERATION_FILE
  digest.update(generation.read_bytes() if generation.exists() else b"")
  for path in sorted(directory.glob("*.safetensors")):
    size = path.stat().st_size
    digest.update(f"{path.name} {size}\n".encode())
    with path.open("rb") as file:
      for block in range(_BLOCKS):
        file.seek(max(size - _BLOCK_BYTES, 0) * block // (_BLOCKS - 1))
        digest.update(file.read(_BLOCK_BYTES))
  return digest.hexdigest()
