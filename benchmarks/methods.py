"""Our policy step with every loss beside the same step with DPO, on the same batch.

    python -m benchmarks.methods --layers=2 --embed_dim=96 --heads=4 --kv_heads=2 --head_dim=24 \\
      --mlp_dim=256 --vocab_size=512 --repeats=20

are the demo's shapes. The two steps of a pair take turns, in alternating order, in one process;
what counts is the median of their ratios, so that what slows the machine down slows both. Memory is
what the compiler gives the step beside its state and batch.
"""

import statistics
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags

from apo_jax.models.definition import Definition, define_policy
from apo_jax.objectives import DPO, PolicyLoss
from apo_jax.policy_step import PolicyBatch
from benchmarks import data, report, settings
from benchmarks.contestants import our_batches, our_steps
from benchmarks.contestants.our_model import mesh
from benchmarks.model import architecture
from benchmarks.race import WARM_UPS, say

FLAGS = flags.FLAGS

flags.DEFINE_integer("queries", 32, "Queries of a batch.", lower_bound=1)
flags.DEFINE_integer("samples", 4, "Responses a query.", lower_bound=2)
flags.DEFINE_integer("query_tokens", 30, "Tokens of a query.", lower_bound=1)
flags.DEFINE_integer("response_tokens", 24, "Tokens of a response, eos included.", lower_bound=2)

# A step with any loss is to take at most so much longer than DPO's.
LARGEST_RATIO = 1.3


def main(argv: Sequence[str]) -> None:
  """Runs the benchmark."""
  del argv
  case = settings.case("queries", "samples", "query_tokens", "response_tokens")
  sizes = FLAGS.query_tokens, FLAGS.response_tokens, FLAGS.vocab_size
  items = data.items(FLAGS.queries, FLAGS.samples, *sizes)
  batch = our_batches.policy_batch(items, np.zeros((FLAGS.queries, FLAGS.samples), np.float32))
  with jax.set_mesh(mesh()):
    definition = define_policy(architecture(settings.model()), mesh())
    found = {}
    dpos_memory = our_steps.policy_step_memory(definition, DPO(), batch)
    for name, kind in sorted(PolicyLoss.known.items()):
      loss = kind()
      read = read_by(loss, batch)
      found[name] = paired(definition, loss, read, batch, FLAGS.repeats)
      memory = our_steps.policy_step_memory(definition, loss, read)
      found[name] |= {"memory": memory, "memory_ratio": memory / dpos_memory}
      say(f"{name}: {found[name]['ratio']:.3f}, memory {found[name]['memory_ratio']:.3f}")
  rows = [
    [
      name,
      *(f"{1e3 * one[key]:.2f}" for key in ("seconds", "dpo_seconds")),
      f"{one['ratio']:.3f}",
      f"{one['memory_ratio']:.3f}",
    ]
    for name, one in found.items()
  ]
  slow = [name for name, one in found.items() if one["ratio"] > LARGEST_RATIO]
  verdict = f"Above {LARGEST_RATIO} times DPO's: {', '.join(slow) or 'none'}."
  text = report.table(["loss", "median ms", "DPO's ms", "median ratio", "memory / DPO's"], rows)
  report.finish("methods", case, f"{text}\n\n{verdict}", {"losses": found})


def read_by(loss: PolicyLoss, batch: PolicyBatch) -> PolicyBatch:
  """The batch with all that a loss reads: a golden response, another policy's log-probabilities."""
  if loss.reads_golden:
    golden = np.zeros(batch.valid.shape, bool)
    golden[:, 0] = True
    batch = batch._replace(golden=golden)
  if loss.reads_earlier_policy:
    batch = batch._replace(earlier_logprobs=batch.reference_logprobs)
  return batch


def paired(
  definition: Definition, loss: PolicyLoss, read: PolicyBatch, batch: PolicyBatch, repeats: int
) -> dict[str, Any]:
  """Seconds of a step with a loss and of DPO's, in turns, and the median of their ratios."""
  runs = [our_steps.policy_step(definition, *one) for one in ((loss, read), (DPO(), batch))]
  for _ in range(WARM_UPS):
    for run in runs:
      run()
  pairs = []
  for turn in range(repeats):
    order = (0, 1) if turn % 2 else (1, 0)
    seconds = {which: runs[which]()["seconds"] for which in order}
    pairs.append((seconds[0], seconds[1]))
  ours, dpos = zip(*pairs, strict=True)
  return {
    "seconds": statistics.median(ours),
    "dpo_seconds": statistics.median(dpos),
    "ratio": statistics.median(one / dpo for one, dpo in pairs),
    "pairs": pairs,
  }


if __name__ == "__main__":
  app.run(main)
