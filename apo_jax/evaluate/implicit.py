"""The reward that a policy trained by DPO stands for, beside that of a reward model.

    r(x, y) = beta (log pi(y|x) - log pi_ref(y|x))

(arXiv 2305.18290, equation 5, up to a term of x alone). Its order does not depend on beta, and
neither does accuracy, so beta is left out. That it generalises less well than an explicit reward
is arXiv 2409.03650's finding.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from apo_jax.evaluate.data import Preferences, Queries
from apo_jax.evaluate.preferences import left_out_note, padded, text_lengths, with_left_out
from apo_jax.evaluate.reading import Item
from apo_jax.evaluate.section import Section
from apo_jax.evaluation.accuracy import accuracy, accuracy_by_length
from apo_jax.evaluation.ndcg import ndcg
from apo_jax.evaluation.uncertainty import Estimate, Measured
from apo_jax.rows.rows import NO_SCORE

Values = Sequence[Float[ndarray, " _"]]


def implicit_section(
  name: str,
  data: Preferences,
  policy: Values,
  reference: Values,
  tokens: Values,
  explicit: Values | None,
  explicit_name: str | None,
) -> Section:
  """The accuracies of the implicit and the explicit reward, and their gap, on the same pairs.

      implicit_accuracy         by log pi - log pi_ref
      per_token_accuracy        by the same over the response's tokens with its end
      explicit_accuracy, gap    by the reward model, and what it has more

  each also where the preferred response is the longer and the shorter one.

  Args:
    name: of the policy and its reference.
    data: the preferences.
    policy: log pi of every response, in nats; nan where a preference fits no row.
    reference: log pi_ref.
    tokens: of every response, with its end.
    explicit: its reward by a reward model; None without one.
    explicit_name: of that.
  """
  read = [one for one in (policy, reference, tokens, explicit) if one is not None]
  kept = [
    index
    for index in range(len(data.records))
    if all(np.all(np.isfinite(values[index])) for values in read)
  ]
  records = [data.records[index] for index in kept]
  scores, lengths = padded([one.scores for one in records], NO_SCORE), text_lengths(records)
  rewards = padded([policy[index] - reference[index] for index in kept], 0.0)
  counts = padded([tokens[index] for index in kept], 1.0)
  kinds = {"implicit": rewards, "per_token": rewards / counts}
  if explicit is not None:
    kinds["explicit"] = padded([explicit[index] for index in kept], 0.0)
  estimates: dict[str, Estimate] = {}
  for kind, values in kinds.items():
    estimates[f"{kind}_accuracy"] = accuracy(values, scores)
  if explicit is not None:
    ours, theirs = estimates["explicit_accuracy"], estimates["implicit_accuracy"]
    estimates["gap"] = Estimate(
      ours.value - theirs.value, ours.pseudo_values - theirs.pseudo_values
    )
  for kind, values in kinds.items():
    by_length = accuracy_by_length(values, lengths, scores)
    estimates |= {f"{kind}_{one}": estimate for one, estimate in by_length.items()}
  left_out = with_left_out(data.left_out, "too long for a model", len(data.records) - len(kept))
  beside = f" beside {explicit_name}" if explicit_name else ""
  return Section(
    key="implicit",
    title=f"Implicit reward of {name}{beside}, on {len(kept):,} preferences of {data.name}",
    measured=Measured([one.query_id for one in records], estimates),
    plain={"policy": name, "explicit": explicit_name, "left_out": left_out},
    notes=left_out_note(left_out),
    items=[
      {"query_id": record.query_id, **{kind: kinds[kind][row] for kind in kinds}}
      for row, record in enumerate(records)
    ],
  )


def ranking_section(
  name: str,
  queries: Queries,
  items: Sequence[Item],
  policy: Values,
  reference: Values,
  rewards: Values,
  judge: str,
) -> Section:
  """Whether the implicit reward orders the answers to a query as a reward model does.

      ndcg, ndcg_of_chance   by log pi - log pi_ref (evaluation/ndcg.py), and by no order at all
      ranking_accuracy       share of pairs of different rewards in the same order, ties half

  The trainer of OPO (arXiv 2410.04346) logs both of held-out data.

  Args:
    name: of the policy and its reference.
    queries: that were answered.
    items: the queries with the answers, of one policy or two.
    policy: log pi of every answer, in nats; nan where an item fits no row.
    reference: log pi_ref.
    rewards: by the reward model.
    judge: its name.
  """
  values = [ours - theirs for ours, theirs in zip(policy, reference, strict=True)]
  kept = [
    index
    for index, value in enumerate(values)
    if len(value) > 1 and np.all(np.isfinite(value)) and np.all(np.isfinite(rewards[index]))
  ]
  implicit = padded([values[index] for index in kept], np.nan)
  explicit = padded([rewards[index] for index in kept], np.nan)
  there = np.isfinite(explicit)
  # `accuracy` reads an order alone, and numbers below 0 as no response.
  order = np.where(there, np.sum(explicit[:, :, None] > explicit[:, None, :], axis=2), NO_SCORE)
  reason = "without two answers that fit"
  left_out = with_left_out(queries.left_out, reason, len(items) - len(kept))
  return Section(
    key="ranking",
    title=f"Order of answers by {name} beside {judge}, on {len(kept):,} queries of {queries.name}",
    measured=Measured(
      [items[index].query_id for index in kept],
      ndcg(implicit, explicit)
      | {"ranking_accuracy": accuracy(np.where(there, implicit, 0.0), order.astype(float))},
    ),
    plain={"policy": name, "judge": judge, "left_out": left_out},
    notes=left_out_note(left_out),
    items=[
      {
        "query_id": items[index].query_id,
        "implicit": values[index],
        "reward": rewards[index],
      }
      for index in kept
    ],
  )
