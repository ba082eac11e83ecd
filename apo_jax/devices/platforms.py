"""What differs between kinds of devices."""

from typing import Literal

# The fused attention of each platform that has one.
FUSED_ATTENTION: dict[str, Literal["cudnn", "splash"]] = {"tpu": "splash", "gpu": "cudnn"}

# Most logits that a device holds at a time in training, where it is not the default of 128 MiB in
# float32. A GPU reads and writes the gradient of the vocabulary's table once a chunk, which takes
# it as long as the products of some hundred tokens (docs/benchmarks.md): 1 GiB.
LOGITS_AT_ONCE = {"gpu": 2**28}
