"""The tables of the page: the rounds' numbers, and what a round has more than another."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from apo_jax.report.data import Run
from apo_jax.report.elements import rounded, section


class Column(NamedTuple):
  """A column of the tables: its heading, its key in evaluation.json, digits after the point."""

  heading: str
  key: str
  digits: int = 3


# What a game is about, in both tables.
MAIN_COLUMNS = (
  Column("true utility", "true_utility"),
  Column("testing reward", "testing_reward"),
  Column("win vs golden", "win_rate_golden"),
  Column("win vs start", "win_rate_start"),
  Column("KL to start", "kl_to_start"),
  Column("length", "response_length", 1),
  Column("unfinished", "unfinished"),
  Column("reward accuracy", "reward_accuracy"),
  Column("ECE", "reward_ece"),
)
COLUMNS = (
  *MAIN_COLUMNS,
  Column("distinct&#8209;2", "distinct_2"),
  Column("distinct samples", "distinct_samples", 2),
  Column("equals golden", "equals_golden"),
  Column("non&#8209;canonical", "non_canonical"),
  Column("golden margin", "golden_margin"),
  Column("testing accuracy", "testing_accuracy"),
  Column("longer-wins accuracy", "longer_wins_accuracy"),
  Column("judges err alike", "judge_error_correlation"),
)


# Of what the players learn from, in score.json.
_SAMPLE_COLUMNS = (
  Column("length", "sample_length", 1),
  Column("unfinished", "sample_unfinished"),
  Column("distinct", "sample_distinct", 2),
  Column("non&#8209;canonical", "sample_non_canonical"),
  Column("length beside golden", "golden_sample_length", 1),
  Column("unfinished", "golden_sample_unfinished"),
  Column("distinct", "golden_sample_distinct", 2),
  Column("equal golden", "equals_golden"),
  Column("length of golden", "golden_length", 1),
  Column("unfinished", "golden_unfinished"),
)


def rounds_table(run: Run) -> str:
  """Every round's numbers with their standard errors."""
  if not run.rounds:
    return section("Rounds", "No round has finished yet.", "")
  columns = [column for column in COLUMNS if any(v is not None for v in run.values(column.key))]
  rows = [
    (
      str(round.number),
      [
        estimate(
          round.evaluation.get(column.key),
          round.evaluation.get("standard_errors", {}).get(column.key),
          column.digits,
        )
        for column in columns
      ],
    )
    for round in run.rounds
  ]
  golden_length, golden_unfinished = (
    next((value for value in run.values(key) if value is not None), None)
    for key in ("golden_length", "golden_unfinished")
  )
  golden = ""
  if golden_length is not None and golden_unfinished is not None:
    golden = (
      f" Golden responses are {rounded(golden_length, 1)} tokens long on average, and a share of "
      f"{rounded(golden_unfinished, 3)} is unfinished."
    )
  return section(
    "Rounds",
    "Every policy judged on the same test queries; round 0 is the supervised start. The testing "
    "reward model takes no part in training. Length is in tokens; unfinished is the share of "
    "responses that ran into the limit, non-canonical of those whose text is tokenised to other "
    "ids than were drawn. Distinct samples are a query’s. Behind ± is the standard error over test "
    f"queries, or over test preferences where it is they that are judged.{golden}",
    table("round", columns, rows),
  )


def samples_table(run: Run) -> str:
  """What the samples are like that the players learn from, in every round."""
  scored = [round for round in run.rounds if "sample_length" in round.score]
  columns = [one for one in _SAMPLE_COLUMNS if any(one.key in round.score for round in scored)]
  if not scored:
    return ""
  rows = [
    (str(round.number), [rounded(round.score.get(one.key), one.digits) for one in columns])
    for round in scored
  ]
  return section(
    "What the players learn from",
    "Samples to the policy’s queries, samples to queries with a golden response, and the golden "
    "responses. Unfinished ones ran into the limit; distinct are a query’s samples that differ. "
    "Golden responses and samples are told apart by what is unlike here, if not by quality.",
    table("round", columns, rows),
  )


def differences_table(run: Run) -> str:
  """Every round less the one before and less the start; the same for round 1, and shown once."""
  pairs = [
    (round, other, round.evaluation["differences"][name])
    for round in run.rounds
    if "differences" in round.evaluation
    for name, other in (("previous", round.number - 1), ("start", 0))
    if name == "previous" or round.number > 1
  ]
  if not pairs:
    return ""
  columns = [
    column
    for column in MAIN_COLUMNS
    if any(_difference(numbers, column)[0] is not None for _, _, numbers in pairs)
  ]
  rows = [
    (
      f"{round.number} − {other}",
      [estimate(*_difference(numbers, column), column.digits, signed=True) for column in columns],
    )
    for round, other, numbers in pairs
  ]
  return section(
    "Differences between rounds",
    "What a round has more than the one before, and than the start. Both answer the same queries, "
    "so the difference is taken query by query; behind ± is its standard error.",
    table("rounds", columns, rows),
  )


def _difference(
  numbers: Mapping[str, Mapping[str, Any]], column: Column
) -> tuple[float | int | None, float | int | None]:
  found = numbers.get(column.key, {})
  return found.get("difference"), found.get("standard_error")


def table(corner: str, columns: Sequence[Column], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
  """A table of numbers, from each row's name and cells."""
  head = "".join(f"<th>{column.heading}</th>" for column in columns)
  body = "".join(
    f"<tr><th>{name}</th>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    for name, cells in rows
  )
  return (
    f'<div class="wide"><table class="rounds"><thead><tr><th>{corner}</th>{head}</tr></thead>'
    f"<tbody>{body}</tbody></table></div>"
  )


def estimate(
  value: float | int | None, error: float | int | None, digits: int, signed: bool = False
) -> str:
  """A number, and under it its standard error where it is known."""
  number = rounded(value, digits)
  if signed and value is not None and value > 0:
    number = f"+{number}"
  return number if error is None else f"{number} <small>±&#8239;{rounded(error, digits)}</small>"
