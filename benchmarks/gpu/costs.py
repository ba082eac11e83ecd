"""What a job of the check has to compute and to move, and what the card could do at best."""

from collections.abc import Mapping
from typing import Any

from apo_jax.models import model_flops
from apo_jax.plan.chips import CHIPS
from benchmarks import work
from benchmarks.model import adapters, architecture


def of(job: Mapping[str, Any]) -> dict[str, float]:
  """FLOPs and bytes of a run of `job`, by the rules of `benchmarks.work`, and tokens sampled."""
  shape = architecture(job["model"])
  if job["work"] == "sampling":
    needed = work.sampling(shape, len(job["queries"][0]), job["lengths"], itemsize=2)
    return {**needed._asdict(), "tokens_wanted": sum(map(sum, job["lengths"]))}
  query = len(job["items"][0][0])
  lengths = [[len(ids) for ids in responses] for _, responses in job["items"]]
  logits = job["work"] in ("dpo", "logprob scores")
  if job["work"] in ("reward scores", "logprob scores"):
    return work.scoring(shape, query, lengths, logits=logits)._asdict()
  needed = work.training_step(shape, query, lengths, logits=logits)
  if adapters(job["model"]) is None:
    return needed._asdict()
  forward = sum(work.row_flops(shape, query, row, logits=logits) for row in lengths)
  # Frozen weights are read forwards and backwards, in 16 bits at most.
  moved = 2 * 2 * work.parameter_count(shape)
  return {"flops": model_flops.training_flops(forward, adapters=True), "bytes": moved}


def peaks(device_kind: str) -> dict[str, float]:
  """FLOP/s in bfloat16 and bytes/s by the card's data sheet; empty for one that is not known."""
  chip = CHIPS.get(device_kind)
  if chip is None and device_kind.startswith("NVIDIA H100"):
    chip = CHIPS["NVIDIA H100 80GB HBM3"]
  if chip is None:
    return {}
  return {"peak_flops": chip.flops, "peak_bandwidth": chip.bandwidth}
