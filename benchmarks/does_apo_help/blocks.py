"""The tables of docs/does_apo_help.md, each as the text between its two markers."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.does_apo_help.estimates import (
  TESTED,
  Contrast,
  arm,
  as_family,
  differences,
  mean_of,
  minus,
)
from benchmarks.does_apo_help.parts import (
  CONTRASTS,
  FACTORS,
  FIGURES,
  GOLDEN_ONCE,
  LONGER,
  LOSSES,
  MODES,
  REWARD_SIZE,
  SIZES,
  VALUES,
  WORLDS,
  Factor,
)
from benchmarks.does_apo_help.results import Results
from benchmarks.pages import NONE, cell, signed, table

# Columns by number, and their decimals.
_OUTCOMES = {
  "true_utility": ("true utility", 3),
  "judge_gap": ("judge's gap", 2),
  "reward_gap": ("reward model's gap", 2),
  "kl_to_start": ("KL, nats", 2),
  "win_rate_golden": ("judge's win rate against golden", 3),
  "response_length": ("tokens", 1),
  "improper_ending": ("improper ending", 3),
  "unfinished": ("unfinished", 3),
  "repetition": ("repetition", 3),
}
_REWARD_MODELS = {
  "own_accuracy": ("accuracy, own samples", 3),
  "own_ece": ("ECE, own samples", 3),
  "reward_accuracy": ("accuracy, test preferences", 3),
  "reward_ece": ("ECE, test preferences", 3),
  "mean_utility": ("utility, mean sample", 3),
  "chosen_utility": ("… chosen", 3),
  "best_utility": ("… best", 3),
  "selection": ("selection", 2),
}
_DESCRIBED = (
  "own_accuracy",
  "own_ece",
  "judge_gap",
  "reward_gap",
  "kl_to_start",
  "improper_ending",
)
_NOT_YET = "Not played yet."


def all_blocks(parts: Mapping[str, Results]) -> dict[str, str]:
  """The text of every marker, by its name.

  Args:
    parts: results by their folder's name; those that are not there yet are said to be so.
  """
  blocks = {"runs": _runs(parts)}
  worlds = [world for world in WORLDS if world.folder in parts]
  family = {
    (world.folder, *place): one
    for world in worlds
    for place, one in differences(
      parts[world.folder], parts[world.folder].last_round, TESTED
    ).items()
  }
  tested = dict(zip(family, as_family(list(family.values())), strict=True))
  for world in WORLDS:
    results = parts.get(world.folder)
    ours = {place[1:]: one for place, one in tested.items() if place[0] == world.folder}
    blocks |= _world(world.folder, results, ours)
  blocks["family"] = _family(tested)
  for factor in FACTORS:
    blocks[factor.folder] = _factor(factor, parts.get(factor.folder))
  blocks[GOLDEN_ONCE] = _golden_once(parts.get(GOLDEN_ONCE), parts.get(LONGER))
  blocks[REWARD_SIZE] = _reward_size(parts.get(REWARD_SIZE), parts.get(WORLDS[0].folder))
  return blocks


def _runs(parts: Mapping[str, Results]) -> str:
  if not parts:
    return _NOT_YET
  rows = []
  for name, results in parts.items():
    known = results.provenance
    rows.append(
      [
        f"[`{name}`](results/{name}/rounds.csv)",
        f"{known['runs']}",
        f"{known['settings']}",
        ", ".join(map(str, known["seeds"])),
        f"`{known['commit'][:12]}`",
        known["date"],
        f"`{known['played']}`",
      ]
    )
  return table(["part", "runs", "settings", "seeds", "commit", "date", "played by"], rows)


def _world(
  folder: str, results: Results | None, tested: Mapping[tuple, Contrast]
) -> dict[str, str]:
  names = ("outcomes", "by_round", "differences", "reward_models", "described", "first_round")
  if results is None:
    return {f"{folder}.{name}": _NOT_YET for name in names}
  last = results.last_round
  texts = (
    _of_arms(results, last, _OUTCOMES),
    _by_round(results) + _figures(folder, "utility"),
    _tested(tested),
    _of_arms(results, last, _REWARD_MODELS) + _figures(folder, "own_accuracy"),
    _described(results, last) + _figures(folder, "judge_gap", "reward_gap", "kl"),
    _first_round(results),
  )
  return {f"{folder}.{name}": text for name, text in zip(names, texts, strict=True)}


def _figures(folder: str, *names: str) -> str:
  shown = (f"![{FIGURES[name].label}, by round](results/{folder}/{name}.svg)" for name in names)
  return "\n\n" + "\n".join(shown)


def _of_arms(results: Results, round: int, columns: Mapping[str, tuple[str, int]]) -> str:
  rows = []
  for loss in LOSSES:
    for mode in MODES:
      numbers = [results.by_seed(arm(mode, loss), round, number) for number in columns]
      cells = [
        cell(mean_of(one), digits)
        for one, (_, digits) in zip(numbers, columns.values(), strict=True)
      ]
      rows.append([f"{LOSSES[loss]}, {MODES[mode]}", f"{len(numbers[0])}", *cells])
  titles = [title for title, _ in columns.values()]
  return f"After round {round}:\n\n" + table(["", "seeds", *titles], rows)


def _by_round(results: Results) -> str:
  """True utility of every round, and what is gained or lost behind the first."""
  rounds = range(results.last_round + 1)
  rows = []
  for loss in LOSSES:
    for mode in MODES:
      each = [results.by_seed(arm(mode, loss), round, TESTED) for round in rounds]
      later = signed(mean_of(minus(each[-1], each[1])), 3)
      rows.append(
        [f"{LOSSES[loss]}, {MODES[mode]}", *(cell(mean_of(one), 3) for one in each), later]
      )
  heading = ["", *(f"round {round}" for round in rounds), f"round {rounds[-1]} − round 1"]
  return table(heading, rows)


def _tested(tested: Mapping[tuple, Contrast]) -> str:
  rows = []
  for contrast in CONTRASTS:
    for loss in (*LOSSES, ""):
      one = tested[contrast, loss]
      rows.append(
        [
          _minus(contrast),
          LOSSES.get(loss, "mean of the three"),
          f"{one.estimate.count}",
          signed(one.estimate, 3),
          *_test(one),
        ]
      )
  return table(["", "loss", "seeds", "true utility", "t", "p", "p, Holm"], rows)


def _described(results: Results, round: int) -> str:
  titles = {**_OUTCOMES, **_REWARD_MODELS}
  found = {number: differences(results, round, number) for number in _DESCRIBED}
  rows = []
  for contrast in CONTRASTS:
    for loss in (*LOSSES, ""):
      cells = [
        signed(mean_of(found[number][contrast, loss]), titles[number][1]) for number in _DESCRIBED
      ]
      rows.append([_minus(contrast), LOSSES.get(loss, "mean of the three"), *cells])
  return table(["", "loss", *(titles[number][0] for number in _DESCRIBED)], rows)


def _first_round(results: Results) -> str:
  """The three reward models of round 1, which judge one policy's samples.

  That round's samples and reward models are the same whatever the policy's loss is, so each seed
  counts once.
  """
  numbers = ("own_accuracy", "own_ece", "selection")
  of_modes = {
    mode: {number: _whatever_the_loss(results, mode, number) for number in numbers}
    for mode in MODES
  }
  digits = [_REWARD_MODELS[number][1] for number in numbers]
  rows = [
    [
      MODES[mode],
      f"{len(found['own_accuracy'])}",
      *(cell(mean_of(found[one]), places) for one, places in zip(numbers, digits, strict=True)),
    ]
    for mode, found in of_modes.items()
  ]
  for ours, theirs in CONTRASTS:
    paired = [minus(of_modes[ours][number], of_modes[theirs][number]) for number in numbers]
    cells = [signed(mean_of(one), places) for one, places in zip(paired, digits, strict=True)]
    rows.append([_minus((ours, theirs)), f"{len(paired[0])}", *cells])
  return table(["", "seeds", *(_REWARD_MODELS[number][0] for number in numbers)], rows)


def _whatever_the_loss(results: Results, mode: str, number: str) -> dict[int, float]:
  found: dict[int, float] = {}
  for loss in LOSSES:
    found = results.by_seed(arm(mode, loss), 1, number) | found
  return found


def _family(tested: Mapping[tuple, Contrast]) -> str:
  count = sum(one.test is not None for one in tested.values())
  below = sum(one.corrected_p < 0.05 for one in tested.values())
  if not count:
    return "No difference has three seeds yet, so none is tested."
  were = "difference is" if count == 1 else "differences are"
  return (
    f"{count} {were} tested, of true utility after the last round in the worlds that are played;"
    f" Holm's correction is over all of them together, and leaves {below} below 0.05."
  )


def _factor(factor: Factor, results: Results | None) -> str:
  if results is None or factor.field not in results.rows[0].setting:
    return _NOT_YET  # or one value alone is, which the file then does not name
  values = list(dict.fromkeys(row.setting[factor.field] for row in results.rows))
  values.sort(key=lambda value: (_number(value), value != factor.usual))
  names = VALUES.get(factor.field, {})
  return _factor_table(factor, results, results.last_round, values, names)


def _factor_table(
  factor: Factor, results: Results, last: int, values: Sequence[str], names: Mapping[str, str]
) -> str:
  """A row for each value after a round, the usual one being what the others are compared with."""
  columns = ("true_utility", "own_accuracy", "judge_gap", "kl_to_start")
  titles = {**_OUTCOMES, **_REWARD_MODELS}

  def of(value: str, number: str) -> dict[int, float]:
    return results.by_seed({factor.field: value}, last, number)

  others = [value for value in values if value != factor.usual]
  paired = [minus(of(value, TESTED), of(factor.usual, TESTED)) for value in others]
  tested = dict(zip(others, as_family(paired), strict=True))
  rows = []
  for value in values:
    cells = [cell(mean_of(of(value, number)), titles[number][1]) for number in columns]
    against = tested.get(value)
    more = ["", "", ""] if against is None else [signed(against.estimate, 3), *_test(against)[1:]]
    rows.append([names.get(value, value), f"{len(of(value, TESTED))}", *cells, *more])
  heading = [factor.name, "seeds", *(titles[number][0] for number in columns)]
  usual = names.get(factor.usual, factor.usual)
  return table([*heading, f"utility less that of {usual}", "p", "p, Holm"], rows)


def _golden_once(once: Results | None, longer: Results | None) -> str:
  """The game against its own reward model of round 1, kept as it is, round by round."""
  if once is None or longer is None:
    return _NOT_YET
  played = {row.setting["policy.loss"] for row in once.rows}
  return "\n\n".join(_golden_once_with(loss, once, longer) for loss in LOSSES if loss in played)


def _golden_once_with(loss: str, once: Results, longer: Results) -> str:
  last = min(once.last_round, longer.last_round)
  titles = {**_OUTCOMES, **_REWARD_MODELS}
  numbers = (TESTED, "own_accuracy", "kl_to_start")
  rows = []
  for round in range(1, last + 1):
    game = [longer.by_seed(arm("adversarial", loss), round, number) for number in numbers]
    kept = [once.by_seed(arm("fixed", loss), round, number) for number in numbers]
    more = minus(game[0], kept[0])
    cells = [
      cell(mean_of(one), titles[number][1])
      for number, both in zip(numbers, zip(game, kept, strict=True), strict=True)
      for one in both
    ]
    test = _test(as_family([more])[0])[1] if round == last else ""
    rows.append([f"{round}", *cells[:2], signed(mean_of(more), 3), test, *cells[2:]])
  heading = ["round", "true utility: the game", "kept", "difference", "p"]
  heading += [
    title for number in numbers[1:] for title in (f"{titles[number][0]}: the game", "kept")
  ]
  seeds = len(longer.by_seed(arm("adversarial", loss), last, TESTED))
  return f"With {LOSSES[loss]}, {seeds} seeds:\n\n" + table(heading, rows)


def _reward_size(sizes: Results | None, grid: Results | None) -> str:
  """The game with reward models of other sizes against the grid's, which has the policy's."""
  if sizes is None or grid is None:
    return _NOT_YET
  loss, field = sizes.rows[0].setting["policy.loss"], "reward.checkpoint"
  usual = [row for row in grid.rows if arm("adversarial", loss).items() <= row.setting.items()]
  # A checkpoint is of one size and seed, .../half/3.
  named = [(Path(row.setting[field]).parent.name, row) for row in sizes.rows]
  rows = [
    row._replace(setting={field: size})
    for size, row in (*named, *(("usual", row) for row in usual))
  ]
  last = min(sizes.last_round, grid.last_round)
  factor = Factor(REWARD_SIZE, field, "reward model", "usual")
  results = Results(rows, {})
  found = _factor_table(factor, results, last, list(SIZES), SIZES)
  return f"With {LOSSES[loss]}:\n\n" + found


def _number(value: str) -> float:
  try:
    return float(value)
  except ValueError:
    return math.inf


def _minus(contrast: tuple[str, str]) -> str:
  ours, theirs = contrast
  return f"{MODES[ours]} − {MODES[theirs]}"


def _test(one: Contrast) -> list[str]:
  if one.test is None:
    return [NONE] * 3
  return [f"{one.test.t:.1f}".replace("-", "−"), _p(one.test.p), _p(one.corrected_p)]


def _p(value: float) -> str:
  return f"{value:.4f}" if value >= 0.0001 else "< 0.0001"
