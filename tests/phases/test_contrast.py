"""What the adversarial term ranks above what, and the phases that draw it."""

from pathlib import Path
from unittest.mock import Mock

import pytest

from apo_jax.data.records import Demonstration
from apo_jax.data.samples import Sample, SampledQuery
from apo_jax.data.tokenised import Tokenised
from apo_jax.phases import contrasts
from apo_jax.phases.batches import ranked_golden, ranked_supervised
from apo_jax.run.phase_inputs import PhaseName, inputs_of, phase_keys, phase_names
from apo_jax.run.run import Run
from tests import tiny

CONTRASTS = ("golden_vs_sample", "golden_vs_initial", "supervised_vs_initial")
INITIAL, SUPERVISED = (
  PhaseName(0, "initial_samples.jsonl"),
  PhaseName(0, "supervised_samples.jsonl"),
)


def sample(*tokens: int, finished: bool = True, text: str = "words") -> Sample:
  return Sample(text, tokens, finished, -1.0)


def sampled(*samples: Sample) -> SampledQuery:
  golden = Demonstration("0", "a query", "golden")
  return SampledQuery(Tokenised(golden, (7, 8), False, (sample(1).response,)), samples)


def test_a_supervised_sample_stands_above_the_initial_ones():
  cut_off, empty, good = sample(2, finished=False), sample(text=" "), sample(3, 4)
  initial = sampled(sample(5), sample(3, 4), sample(6))
  ranked = ranked_supervised(sampled(cut_off, empty, good, sample(9)), initial)
  responses = [response.tokens for response in ranked.item[1]]
  assert responses == [(3, 4), (5,), (6,)]
  assert list(ranked.scores) == [1.0, 0.0, 0.0]
  assert ranked.twins == 1  # the initial policy says the same: no pair, and a part of what it says
  assert ranked_golden(initial).item[1][0] == initial.golden


def test_without_a_good_sample_nothing_is_ranked():
  ranked = ranked_supervised(sampled(sample(2, finished=False)), sampled(sample(5)))
  assert (tuple(ranked.item[1]), tuple(ranked.scores), ranked.twins) == ((), (), 0)


@pytest.mark.parametrize(
  ("contrast", "expected"),
  [
    ("golden_vs_sample", [(1,), (6,)]),
    ("golden_vs_initial", [(1,), (5,)]),
    ("supervised_vs_initial", [(3, 4), (5,)]),
  ],
)
def test_what_stands_above_what(monkeypatch, contrast, expected):
  files = {
    "rounds/00/initial_samples.jsonl": sampled(sample(5)),
    "rounds/00/supervised_samples.jsonl": sampled(sample(3, 4)),
    "rounds/02/golden_samples.jsonl": sampled(sample(6)),
  }
  monkeypatch.setattr(contrasts, "read_samples", lambda path, records: [files[str(path)]])
  run = Mock(Run, config=config(contrast), data=Mock(), directory=Mock())
  run.directory.round = lambda round: Path("rounds") / f"{round:02}"
  (ranked,) = contrasts.contrasted(run, 2)
  assert [response.tokens for response in ranked.item[1]] == expected
  assert list(ranked.scores) == [1.0, 0.0]


def config(contrast: str, **overrides: object):
  return tiny.config(reward__contrast=contrast, model__checkpoint="somewhere", **overrides)


def test_samples_are_drawn_once_and_read_by_every_round():
  names = {contrast: phase_names(config(contrast)) for contrast in CONTRASTS}
  assert INITIAL not in names["golden_vs_sample"]
  for contrast in CONTRASTS[1:]:
    listed = names[contrast]
    assert listed[0] == INITIAL  # before anything is trained
    assert (SUPERVISED in listed) == (contrast == "supervised_vs_initial")
    assert not any(name.result == "golden_samples.jsonl" for name in listed)
    for round in (1, 2):
      read = inputs_of(config(contrast), PhaseName(round, "reward.json")).phases
      assert INITIAL in read and (SUPERVISED in read) == (SUPERVISED in listed)
    for number, name in enumerate(listed):
      assert set(inputs_of(config(contrast), name).phases) <= set(listed[:number])


def test_games_of_other_contrasts_share_what_they_can():
  keys = {contrast: phase_keys(config(contrast)) for contrast in CONTRASTS}
  golden, supervised = keys["golden_vs_initial"], keys["supervised_vs_initial"]
  assert golden[INITIAL] == supervised[INITIAL]
  reward = PhaseName(1, "reward.json")
  assert len({one[reward] for one in keys.values()}) == 3
  for result in ("supervised.json", "reward_base.json", "evaluation.json"):
    assert len({one[PhaseName(0, result)] for one in keys.values()}) == 1
  # Nothing of the first round's sampler is another where another loss is chosen.
  other = phase_keys(config("golden_vs_initial", policy__loss="rjs"))
  assert other[INITIAL] == golden[INITIAL]
