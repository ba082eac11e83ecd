"""A DPO step: ours, TRL's DPOTrainer with and without recomputing activations, Tunix's.

    python -m benchmarks.dpo --trl_python=... --tunix_python=...

AdamW with clipping on pairs of responses. The reference's log-probabilities are given to all.
"""

from collections.abc import Sequence

from absl import app, flags

from benchmarks import pairs, race, report, settings, work
from benchmarks.model import architecture

FLAGS = flags.FLAGS


def main(argv: Sequence[str]) -> None:
  """Runs the benchmark."""
  del argv
  result = race.race(pairs.contestants(both_ways=False), FLAGS.repeats)
  case = pairs.case()
  needed = work.training_step(
    architecture(settings.model()),
    FLAGS.query_tokens,
    [[FLAGS.response_tokens] * pairs.PAIR] * FLAGS.pairs,
    logits=True,
  )
  works = dict.fromkeys(result.runs, needed)
  text = report.comparison(result, works, loss=True)
  report.finish("dpo", case, text, report.as_json(result, works))


if __name__ == "__main__":
  app.run(main)
