"""Plain PyTorch and transformers as contestants: a DPO step as one writes it, and `generate`.

Nothing but torch and transformers is imported, so that they run where TRL is not installed. Weights
are those of the checkpoint in `job["weights"]`, or random ones made on the device.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks import data, resident
from benchmarks.rate import COPIED_BYTES, rate

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
BETA = 0.1


def policy(job: Mapping[str, Any], dtype: torch.dtype) -> transformers.PreTrainedModel:
  """The causal language model of `job`, on the device."""
  if "weights" in job:
    folder = Path(job["weights"]) / "policy"
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(DEVICE)
  shape = job["model"]["shape"]
  config = transformers.LlamaConfig(
    vocab_size=job["model"]["vocab_size"],
    hidden_size=shape["embed_dim"],
    intermediate_size=shape["mlp_dim"],
    num_hidden_layers=shape["layers"],
    num_attention_heads=shape["heads"],
    num_key_value_heads=shape["kv_heads"],
    head_dim=shape["head_dim"],
    rms_norm_eps=shape["norm_epsilon"],
    rope_theta=shape["rope_theta"],
    tie_word_embeddings=shape["tied_embeddings"],
  )
  torch.manual_seed(0)
  with torch.device(DEVICE):
    return transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)


def sampling(job: Mapping[str, Any]) -> Callable[[], dict[str, Any]]:
  """`generate` on one batch of queries after another, several sequences of each.

  Each response ends on the schedule as it would end by eos; like after an eos, its row stays in the
  batch until the last one ends.
  """
  model = policy(job, getattr(torch, job["model"]["dtype"]))
  # Only the schedule ends a response.
  model.generation_config.eos_token_id = None
  size, samples = job["batch"], len(job["lengths"][0])
  batches = [
    (
      torch.tensor(job["queries"][first : first + size], device=DEVICE),
      torch.tensor(job["lengths"][first : first + size], device=DEVICE).reshape(-1),
    )
    for first in range(0, len(job["queries"]), size)
  ]

  class Schedule(transformers.StoppingCriteria):
    """A row is over when it has as many tokens as its response is to have."""

    def __init__(self, width: int, limits: torch.Tensor) -> None:
      self.width, self.limits = width, limits

    def __call__(self, input_ids: torch.Tensor, scores: Any, **options: Any) -> torch.Tensor:
      return input_ids.shape[1] - self.width >= self.limits

  def generate(queries: torch.Tensor, limits: torch.Tensor) -> int:
    """Samples one batch; says how many tokens of it count."""
    width = queries.shape[1]
    drawn = model.generate(
      input_ids=queries,
      attention_mask=torch.ones_like(queries),
      do_sample=True,
      temperature=1.0,
      top_k=0,
      top_p=1.0,
      num_return_sequences=samples,
      max_new_tokens=int(limits.max()),
      pad_token_id=data.PADDING,
      stopping_criteria=transformers.StoppingCriteriaList([Schedule(width, limits)]),
    ).cpu()
    return int(torch.clamp(limits, max=drawn.shape[1] - width).sum())

  def run() -> dict[str, Any]:
    began = time.perf_counter()
    tokens = sum(generate(*batch) for batch in batches)
    return {"seconds": time.perf_counter() - began, "tokens": tokens}

  return run


def dpo(job: Mapping[str, Any]) -> Callable[[], dict[str, Any]]:
  """A DPO step on the pairs of `job["items"]`, in one batch, with AdamW and clipping.

  `job["masters"]` is the weights' type: float32 ones are computed with by autocast, as our masters
  are. Logits are those of responses alone, attention is `sdpa`, nothing is recomputed. Where memory
  is short, `job["accumulation"]` says in how many parts the batch is read. The reference's
  log-probabilities are zeros: given, as in a round. All responses have one length, and all queries
  another.
  """
  masters, dtype = getattr(torch, job["masters"]), getattr(torch, job["model"]["dtype"])
  model = policy(job, masters).train()
  optimizer = torch.optim.AdamW(
    model.parameters(), lr=1e-6, betas=(0.9, 0.999), weight_decay=0.0, fused=True
  )
  items, parts = job["items"], job.get("accumulation", 1)
  batches = [
    torch.tensor([[*query, *pair[side]] for side in (0, 1) for query, pair in part], device=DEVICE)
    for part in (items[first::parts] for first in range(parts))
  ]
  length = len(items[0][1][0])
  autocast = torch.autocast(DEVICE, dtype=dtype, enabled=masters != dtype)

  def loss_of(tokens: torch.Tensor) -> torch.Tensor:
    """A part's share of the batch's loss."""
    with autocast:
      logits = model(input_ids=tokens, use_cache=False, logits_to_keep=length + 1).logits
    told, drawn = logits[:, :-1], tokens[:, -length:]
    logprobs = -torch.nn.functional.cross_entropy(
      told.reshape(-1, told.shape[-1]).float(), drawn.reshape(-1), reduction="none"
    )
    chosen, rejected = logprobs.reshape(len(tokens), length).sum(dim=1).chunk(2)
    return -torch.nn.functional.logsigmoid(BETA * (chosen - rejected)).sum() / len(items)

  def run() -> dict[str, Any]:
    began = time.perf_counter()
    total = 0.0
    for tokens in batches:
      loss = loss_of(tokens)
      loss.backward()
      total += loss.detach()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    synchronize()
    return {"seconds": time.perf_counter() - began, "loss": float(total)}

  return run


def limits(dtype: torch.dtype) -> dict[str, float]:
  """FLOP/s of a large matrix product in `dtype`, and bytes/s of a large copy, read and written."""
  size = 8192 if ON_GPU else 3072
  # Random: a GPU's clock falls less where most bits do not change.
  matrix = torch.randn((size, size), dtype=torch.float32, device=DEVICE).to(dtype)
  array = torch.ones((COPIED_BYTES // 4,), device=DEVICE)
  copied = torch.empty_like(array)
  return {
    "flops": _rate(2.0 * size**3, lambda: torch.matmul(matrix, matrix)),
    "bandwidth": _rate(2.0 * COPIED_BYTES, lambda: torch.add(array, 1, out=copied)),
  }


def peak_bytes(held: int) -> int:
  """The most memory so far: the device's, or on a CPU the process's above the `held` bytes."""
  return torch.cuda.max_memory_allocated() if ON_GPU else resident.peak_bytes() - held


def device_name() -> str:
  """What runs the contestant."""
  return torch.cuda.get_device_name() if ON_GPU else f"cpu, {torch.get_num_threads()} threads"


def synchronize() -> None:
  """Waits for the device."""
  if ON_GPU:
    torch.cuda.synchronize()


def _rate(amount: float, call: Callable[[], Any]) -> float:
  """Amounts a second of calls that do so much each."""

  def calls(count: int) -> None:
    for _ in range(count):
      call()
    synchronize()

  return rate(amount, calls, accelerator=ON_GPU)
