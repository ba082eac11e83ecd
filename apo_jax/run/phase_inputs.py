"""What each phase of a game reads: the fields of the config, and other phases' results.

Two runs' phases with equal inputs have equal results, so that one of them need not be played. A
field that a phase reads and that its entry here does not name would break that:
tests/run/test_phase_inputs.py plays a game with a config that notes what is read.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from apo_jax.config.schema import Config
from apo_jax.logs.run_directory import (
  BASELINE_SAMPLES,
  EVALUATION,
  GOLDEN_SAMPLES,
  INITIAL_SAMPLES,
  POLICY_SAMPLES,
  SCORE,
  SUPERVISED_SAMPLES,
)
from apo_jax.objectives.choice import Choice
from apo_jax.run.players import Player, Players, made_by


class PhaseName(NamedTuple):
  """A phase of a game.

  Attributes:
    round: the round; 0 for what comes before the first.
    result: the file in the round's directory that says the phase is finished.
  """

  round: int
  result: str

  @property
  def words(self) -> str:
    """What people call it, such as "round 1 policy samples"."""
    return f"round {self.round} {self.stem.replace('_', ' ')}"

  @property
  def stem(self) -> str:
    """Its result without the ending; metrics call the phase so."""
    return self.result.rsplit(".", 1)[0]

  @property
  def player(self) -> Player | None:
    """The player that the phase makes, if it makes one."""
    return made_by(self.round, self.stem)


class PhaseInputs(NamedTuple):
  """What a phase reads.

  Attributes:
    fields: of the config, by dotted path; a section stands for all that it holds. Who plays
      against whom (`reward.start`, `policy.start`, `policy.reference`) is said by `phases` instead.
    phases: those whose results it reads.
  """

  fields: tuple[str, ...]
  phases: tuple[PhaseName, ...]


@dataclasses.dataclass(frozen=True)
class Surroundings:
  """What a phase's result depends on beside the config.

  Attributes:
    checkpoints: a hash of each checkpoint, by the config field that names it.
    shared: what all phases read, in JSON's types: the data's hash, the devices, the code.
  """

  checkpoints: Mapping[str, str] = dataclasses.field(default_factory=dict)
  shared: Mapping[str, Any] = dataclasses.field(default_factory=dict)


# `memory` and `checkpoints` say where parameters lie and what of a stopped phase is kept, and
# `rounds` how many follow: none changes what a phase gives.
_COMMON = ("seed", "mesh", "model", "tokenizer", "data")
_POLICY_MODEL = ("policy.lora",)
# The terms say whether it keeps a language-model head.
_REWARD_MODEL = ("reward.checkpoint", "reward.lora", "reward.pooling", "reward.terms")
_JUDGE_MODEL = (*_REWARD_MODEL, "testing_reward.checkpoint", "testing_reward.shape")
_REWARD_LOSS = ("reward.apo", "reward.terms", "sampling.training.num_samples")
_SAMPLER = (
  *_POLICY_MODEL,
  "sampling.batch_size",
  "sampling.cache_dtype",
  "sampling.gather_weights",
)
# The longest row that is scored may be an evaluation's.
_SCORER = ("evaluation.batch_size", "sampling.evaluation.max_new_tokens")
_TRAINING = ("logging.every_steps",)


def phase_names(config: Config) -> list[PhaseName]:
  """All phases of a game, in the order in which they are played."""
  reward = config.reward
  listed = ["supervised.json", "reward_base.json"]
  if reward.reads_initial_samples:
    listed.insert(0, INITIAL_SAMPLES)
  if reward.reads_supervised_samples:
    listed.insert(2, SUPERVISED_SAMPLES)
  if config.policy.reads_baselines:
    listed.insert(listed.index("reward_base.json"), BASELINE_SAMPLES)
  if config.testing_reward.shape is not None:
    listed.append("testing_trunk.json")
  listed += ["testing_reward.json", EVALUATION]
  names = [PhaseName(0, result) for result in listed]
  of_a_round = ["policy.json", EVALUATION]
  of_a_round = [POLICY_SAMPLES, SCORE, *of_a_round]
  if reward.mode != "fixed":
    of_a_round.insert(0, "reward.json")
  if reward.reads_round_samples:
    of_a_round.insert(0, GOLDEN_SAMPLES)
  rounds = range(1, config.rounds + 1)
  return names + [PhaseName(round, result) for round in rounds for result in of_a_round]


def inputs_of(config: Config, name: PhaseName) -> PhaseInputs:
  """What a phase of this game reads.

  Raises:
    KeyError: there is no such phase.
  """
  fields, phases = _table(config, name.round)[name.result]
  return PhaseInputs((*_COMMON, *fields), phases)


def _table(config: Config, round: int) -> dict[str, tuple[tuple[str, ...], tuple[PhaseName, ...]]]:
  """Fields, beside those of all, and phases by the result of a round's phases."""
  players = Players(config)
  supervised, base = _made(players.policy_after(0)), _made(players.reward_after(0))
  judge, trunk = _made(players.testing_reward), _made(players.testing_trunk)
  own_trunk = () if config.testing_reward.shape is None else (trunk,)
  if not round:
    samples = (*_SAMPLER, "sampling.training")
    return {
      INITIAL_SAMPLES: (samples, ()),
      SUPERVISED_SAMPLES: (samples, (supervised,)),
      BASELINE_SAMPLES: (
        (*samples, "sampling.baselines", *_golden_or_own(config)),
        (supervised,),
      ),
      "supervised.json": ((*_POLICY_MODEL, "supervised", *_TRAINING), ()),
      "reward_base.json": (
        (*_POLICY_MODEL, *_REWARD_MODEL, *_REWARD_LOSS, "reward.base", *_TRAINING),
        (supervised,),
      ),
      "testing_trunk.json": (("testing_reward.shape", "supervised", *_TRAINING), ()),
      "testing_reward.json": (
        (
          *_POLICY_MODEL,
          *_JUDGE_MODEL,
          *_REWARD_LOSS,
          "reward.base",
          "testing_reward",
          *_TRAINING,
        ),
        (supervised, *own_trunk),
      ),
      EVALUATION: (
        (*_SAMPLER, *_JUDGE_MODEL, *_SCORER, "sampling.evaluation", "evaluation"),
        (supervised, base, judge),
      ),
    }
  speaker = _made(players.policy_after(round - 1))
  sampled = (PhaseName(round, GOLDEN_SAMPLES),) if config.reward.reads_round_samples else ()
  against = sampled or _samples_before_the_first_round(config)
  policy, reward = _made(players.policy_after(round)), _made(players.reward_after(round))
  references = [_made(players.reference(round))]
  if config.policy.loss.reads_earlier_policy:
    references.append(_made(players.earlier_reference(round)))
  replayed = [PhaseName(earlier, POLICY_SAMPLES) for earlier in replayed_rounds(config, round)]
  return {
    GOLDEN_SAMPLES: ((*_SAMPLER, "sampling.training"), (speaker,)),
    "reward.json": (
      (
        *_REWARD_MODEL,
        *_REWARD_LOSS,
        "reward.mode",
        "reward.contrast",
        "reward.weighting",
        "reward.preference_batch_size",
        "reward.training",
        "sampling.training.max_new_tokens",
        *_TRAINING,
      ),
      (_made(players.reward_start(round)), *against),
    ),
    POLICY_SAMPLES: (
      (*_SAMPLER, "sampling.training", *_golden_or_own(config)),
      (speaker,),
    ),
    SCORE: (
      (
        *_POLICY_MODEL,
        *_REWARD_MODEL,
        *_SCORER,
        "reward.mode",
        "reward.contrast",
        "sampling.baselines",
        "policy.loss",
        "policy.shapings",
        "policy.selections",
        "policy.replay",
        "policy.unfinished",
      ),
      (
        PhaseName(round, POLICY_SAMPLES),
        *(against if config.policy.reads_embeddings else sampled),
        *([PhaseName(0, BASELINE_SAMPLES)] if config.policy.reads_baselines else []),
        reward,
        *dict.fromkeys(references),
        *replayed,
      ),
    ),
    "policy.json": (
      (
        *_POLICY_MODEL,
        "policy.loss",
        "policy.selections",
        "policy.replay",
        "policy.training",
        "sampling.training.num_samples",
        "sampling.training.max_new_tokens",
        *_TRAINING,
      ),
      (PhaseName(round, SCORE), _made(players.policy_start(round))),
    ),
    EVALUATION: (
      (*_SAMPLER, *_JUDGE_MODEL, *_SCORER, "sampling.evaluation", "evaluation"),
      (
        policy,
        supervised,
        reward,
        judge,
        PhaseName(0, EVALUATION),
        PhaseName(round - 1, EVALUATION),
      ),
    ),
  }


def _golden_or_own(config: Config) -> tuple[str, ...]:
  """What says whose queries the policy answers: a loss may read golden responses."""
  return ("policy.loss",) if config.policy.loss.reads_golden else ()


def _samples_before_the_first_round(config: Config) -> tuple[PhaseName, ...]:
  """The phases that draw once what every round's reward step reads."""
  reward = config.reward
  initial = (INITIAL_SAMPLES,) if reward.reads_initial_samples else ()
  supervised = (SUPERVISED_SAMPLES,) if reward.reads_supervised_samples else ()
  return tuple(PhaseName(0, result) for result in (*initial, *supervised))


def _made(player: Player) -> PhaseName:
  """The phase that makes a player."""
  return PhaseName(player.round, f"{player.phase}.json")


def replayed_rounds(config: Config, round: int) -> dict[int, float]:
  """The earlier rounds whose answers a round's policy step learns from again, and their shares."""
  shares = enumerate(config.policy.replay, 1)
  return {round - back: share for back, share in shares if share and round > back}


def phase_keys(config: Config, surroundings: Surroundings | None = None) -> dict[PhaseName, str]:
  """A hash of all that each phase of a game reads, the phases before it included.

  Without surroundings it is of the config alone: enough to tell which phases of runs on the same
  data, devices and code are equal.
  """
  around = surroundings or Surroundings()
  keys: dict[PhaseName, str] = {}

  def key(name: PhaseName) -> str:
    if name not in keys:
      fields, phases = inputs_of(config, name)
      read = {
        "phase": name,
        "fields": {field: _described(field_of(config, field)) for field in sorted(set(fields))},
        "checkpoints": {
          field: sha256
          for field, sha256 in around.checkpoints.items()
          if any(_holds(f"config.{named}", field) for named in fields)
        },
        "phases": [key(one) for one in phases],
        "shared": around.shared,
      }
      keys[name] = hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()[:32]
    return keys[name]

  return {name: key(name) for name in phase_names(config)}


def _holds(section: str, field: str) -> bool:
  return field == section or field.startswith(f"{section}.")


def field_of(config: Config, path: str) -> Any:
  """The value of a field of a config, by its dotted path."""
  value: Any = config
  for part in path.split("."):
    value = getattr(value, part)
  return value


def _described(value: Any) -> Any:
  """A value of a config in JSON's types; what is chosen keeps its name."""
  if isinstance(value, tuple):
    return [_described(one) for one in value]
  if not dataclasses.is_dataclass(value):
    return value
  described = {one.name: _described(getattr(value, one.name)) for one in dataclasses.fields(value)}
  return {"choice": value.name, **described} if isinstance(value, Choice) else described
