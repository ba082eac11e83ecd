"""What chips can do: memory, peak rates and price, each from its maker's public pages."""

import dataclasses

GIB = 2.0**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """One accelerator.

  Attributes:
    name: what its maker calls it.
    memory: bytes that a program may use.
    flops: peak FLOP/s of bfloat16 matrix products, dense.
    bandwidth: of its memory, bytes/s.
    links: bytes/s that it can send to other chips, all links in one direction.
    axes: of the torus, over which the links are spread evenly; 1 where a switch joins all chips.
    price: US dollars an hour, on demand; None where there is no list price.
  """

  name: str
  memory: float
  flops: float
  bandwidth: float
  links: float
  axes: int
  price: float | None


# By JAX's `device_kind`. Memory of TPUs is what their compiler says it has ("Used … of 15.75G
# hbm"), a little less than the nominal size. Their pages give the links' rate in both directions
# together ("bidirectional"), so half of it counts here. Prices are those that
# cloud.google.com/tpu/pricing gave for US regions in 2025; look there for today's.
CHIPS = {
  # cloud.google.com/tpu/docs/v5e: 197 TFLOPs, 16 GB, 819 GBps, ICI 400 GBps bidirectional.
  "TPU v5 lite": Chip("TPU v5e", 15.75 * GIB, 197e12, 819e9, 200e9, 2, 1.20),
  # cloud.google.com/tpu/docs/v5p: 459 TFLOPs, 95 GiB, 2765 GBps, ICI 1200 GBps bidirectional.
  "TPU v5": Chip("TPU v5p", 95.74 * GIB, 459e12, 2765e9, 600e9, 3, 4.20),
  # cloud.google.com/tpu/docs/v6e: 918 TFLOPs, 32 GB, 1600 GBps, ICI 800 GBps bidirectional.
  "TPU v6 lite": Chip("TPU v6e", 31.25 * GIB, 918e12, 1600e9, 400e9, 2, 2.70),
  # nvidia.com/en-us/data-center/h100: SXM, 989 TFLOPS dense, 80 GB, 3.35 TB/s, NVLink 900 GB/s in
  # both directions. Memory is what the driver leaves.
  "NVIDIA H100 80GB HBM3": Chip("H100 SXM", 79.2 * GIB, 989e12, 3350e9, 450e9, 1, None),
  # nvidia.com/en-us/data-center/h200: the same but 141 GB and 4.8 TB/s.
  "NVIDIA H200": Chip("H200 SXM", 139.7 * GIB, 989e12, 4800e9, 450e9, 1, None),
}
