"""Which weights a checkpoint holds, in a few bytes."""

import hashlib
from pathlib import Path

# So many blocks of each file are read, evenly spaced, its first and last among them: other weights
# of the same shapes differ in all of them, and a large model is looked at in a moment.
_BLOCKS = 64
_BLOCK_BYTES = 65536


def checkpoint_sha256(directory: Path) -> str:
  """A hash of the checkpoint's config.json, and of samples of its safetensors files."""
  digest = hashlib.sha256((directory / "config.json").read_bytes())
  for path in sorted(directory.glob("*.safetensors")):
    size = path.stat().st_size
    digest.update(f"{path.name} {size}\n".encode())
    with path.open("rb") as file:
      for block in range(_BLOCKS):
        file.seek(max(size - _BLOCK_BYTES, 0) * block // (_BLOCKS - 1))
        digest.update(file.read(_BLOCK_BYTES))
  return digest.hexdigest()
