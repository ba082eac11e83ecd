"""Which weights a checkpoint holds, in a few bytes."""

import hashlib
from pathlib import Path

from apo_jax.models.hugging_face.adapters import ADAPTER_CONFIG_FILE
from apo_jax.models.hugging_face.checkpoint import CONFIG_FILE, GENERATION_FILE

# So many blocks of each file are read, evenly spaced, its first and last among them: other weights
# of the same shapes differ in all of them, and a large model is looked at in a moment.
_BLOCKS = 64
_BLOCK_BYTES = 65536


def checkpoint_sha256(directory: Path, *others: Path) -> str:
  """A hash of the checkpoint's configs, and of samples of its safetensors files.

  generation_config.json, where there is one, says what ends a response. `others` are directories
  of adapters, which are part of it; their config names the base, wherever that lies.
  """
  digest = hashlib.sha256()
  for one in (directory, *others):
    for name in (CONFIG_FILE, ADAPTER_CONFIG_FILE, GENERATION_FILE):
      file = one / name
      digest.update(file.read_bytes() if file.exists() else b"")
    _add_weights(digest, one)
  return digest.hexdigest()


def _add_weights(digest: "hashlib._Hash", directory: Path) -> None:
  for path in sorted(directory.glob("*.safetensors")):
    size = path.stat().st_size
    digest.update(f"{path.name} {size}\n".encode())
    with path.open("rb") as file:
      for block in range(_BLOCKS):
        file.seek(max(size - _BLOCK_BYTES, 0) * block // (_BLOCKS - 1))
        digest.update(file.read(_BLOCK_BYTES))
