"""What differs between kinds of devices."""

from typing import Literal

# The fused attention of each platform that has one.
FUSED_ATTENTION: dict[str, Literal["cudnn", "splash"]] = {"tpu": "splash", "gpu": "cudnn"}
