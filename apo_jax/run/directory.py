"""The run directory: whose it is, what is kept in it, and what each round started from."""

import contextlib
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import transformers
from jax.experimental import multihost_utils

from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import Config, to_dict
from apo_jax.data.preview import preview
from apo_jax.data.records import Demonstration, GameData, Preference, Query
from apo_jax.data.sources import fingerprint
from apo_jax.data.templates import find_template
from apo_jax.data.tokens import Codec, load_tokenizer, train_tokenizer, truncated
from apo_jax.logs import files
from apo_jax.run.context import RunContext
from apo_jax.run.origins import Origins

# What may differ when a run goes on: where it runs, how much it says, and how long it plays.
_MAY_CHANGE = ("rounds", "mesh", "memory", "checkpoints", "logging")


def identity(config: Config) -> str:
  """A short hash of all that makes a run what it is; what may change in between is left out."""
  fixed = {name: value for name, value in to_dict(config).items() if name not in _MAY_CHANGE}
  return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:8]


def check_owner(run_dir: Path, config: Config, origins: Origins, data: GameData) -> None:
  """Checks that the directory is new, or was started with this config, weights and data.

  Raises:
    ConfigError: it belongs to another run, or is no directory that can be written.
  """
  if "://" in str(run_dir) or ":/" in str(run_dir):
    raise ConfigError(
      f"--run_dir is {str(run_dir)!r}; it must be a path of the file system: mount the bucket."
    )
  try:
    run_dir.mkdir(parents=True, exist_ok=True)
    known = _read_if_there(run_dir / "config.json")
    known_data = _read_if_there(run_dir / "data.json")
    known_weights = _read_if_there(run_dir / "origins.json") or {}
  except (OSError, ValueError) as error:
    raise ConfigError(f"--run_dir is {str(run_dir)!r}, which cannot be used: {error}") from error
  _compare_weights(known_weights, run_dir, origins)
  if known is not None:
    for field, old, new in _differences(known, to_dict(config), "config"):
      # A checkpoint may move: its weights were found to be the same.
      moved = old and new and field in known_weights
      if field.split(".")[1] not in _MAY_CHANGE and not moved:
        raise ConfigError(
          f"{field} is {new!r}, but the run in {run_dir} was started with {old!r}; give another "
          "--run_dir, or the old value to continue that run."
        )
  if known_data is not None and known_data["sha256"] != fingerprint(data):
    raise ConfigError(
      f"The data has changed since the run in {run_dir} was started; give another --run_dir, or "
      "the old data to continue that run."
    )


def check_weights(run_dir: Path, origins: Origins) -> None:
  """Checks that the checkpoints hold what they held when the run was started.

  Raises:
    ConfigError: they do not.
  """
  _compare_weights(_read_if_there(run_dir / "origins.json") or {}, run_dir, origins)


def _compare_weights(known: Mapping[str, str], run_dir: Path, origins: Origins) -> None:
  for field, old in known.items():
    if origins.fingerprints.get(field, old) != old:
      raise ConfigError(
        f"The weights of {field} have changed since the run in {run_dir} was started; give the old"
        " weights, or start another run."
      )


def make_tokenizer(
  run_dir: Path, config: Config, origins: Origins, data: GameData
) -> transformers.PreTrainedTokenizerBase:
  """The run's tokenizer: its own copy where there is one, else read or trained as the config says.

  Raises:
    ConfigError: there is none where the config, or the run directory, says; its chat template has
      changed since the run was started; or the reward model's checkpoint was made for another.
  """
  tokenizer, is_kept = _find_tokenizer(run_dir, config, origins, data)
  template = find_template(tokenizer, config.data.chat_template)
  if is_kept and template not in (None, tokenizer.chat_template):
    raise ConfigError(
      f"config.data.chat_template is {config.data.chat_template!r}, which has changed since the"
      f" run in {run_dir} was started; give another --run_dir, or the old template to continue."
    )
  if template is not None:
    tokenizer.chat_template = template  # saved with the tokenizer, for whoever uses the policy
  if origins.reward_checkpoint is not None:
    field = "config.reward.checkpoint"
    theirs = load_tokenizer(origins.reward_checkpoint.directory, field)
    other = theirs.get_vocab()
    if any(other.get(token) != index for token, index in tokenizer.get_vocab().items()):
      raise ConfigError(
        f"{field} is {config.reward.checkpoint!r}, whose tokenizer is not the policy's; both"
        " players read the same token ids, so give a reward model of the policy's tokenizer."
      )
  return tokenizer


def _find_tokenizer(
  run_dir: Path, config: Config, origins: Origins, data: GameData
) -> tuple[transformers.PreTrainedTokenizerBase, bool]:
  """The tokenizer, and whether it is the run directory's own copy."""
  kept = run_dir / "tokenizer"
  if (kept / "finished").exists():
    return load_tokenizer(kept, "the run directory's tokenizer"), True
  if config.tokenizer.path:
    return load_tokenizer(config.tokenizer.path, "config.tokenizer.path"), False
  if origins.policy_checkpoint is not None:
    directory = origins.policy_checkpoint.directory
    return load_tokenizer(directory, "config.model.checkpoint"), False
  return train_tokenizer(_training_texts(data), config.tokenizer.vocab_size), False


def claim(run_dir: Path, config: Config, origins: Origins, data: GameData, codec: Codec) -> None:
  """Makes the directory this run's; called when all is known to fit.

  Raises:
    ConfigError: this process has read other data than the first one.
  """
  if jax.process_index() == 0:
    # Where it is there, `check_owner` has found it to be of this data.
    is_new = not (run_dir / "data.json").exists()
    if is_new:
      described, shown = _describe(data, codec), preview(codec, _examples(data))
    # The config first: whoever finds the rest knows whose it is.
    files.write_json(run_dir / "config.json", to_dict(config))
    files.write_json(run_dir / "origins.json", origins.fingerprints)
    if is_new:
      files.write_text(run_dir / "preview.txt", shown)
      files.write_json(run_dir / "data.json", described)
    if not (run_dir / "tokenizer" / "finished").exists():
      codec.tokenizer.save_pretrained(run_dir / "tokenizer")
      files.write_text(run_dir / "tokenizer" / "finished", "")
  barrier("claim")
  if jax.process_index() == 0:
    return  # what it has read is what it wrote
  if files.read_json(run_dir / "data.json")["sha256"] != fingerprint(data):
    raise ConfigError(
      f"Process {jax.process_index()} has read other data than process 0; give all processes the"
      " same files."
    )


def write_provenance(run: RunContext, round: int) -> None:
  """Says of a round what would have to be known to play it again."""
  path = run.round_dir(round) / "provenance.json"
  if not run.is_writer or path.exists():
    return
  files.write_json(
    path,
    {
      "round": round,
      "seed": run.config.seed,
      "sampling_policy": run.policy_after(round - 1),
      "model_checkpoint": run.config.model.checkpoint,
      "reward_checkpoint": run.config.reward.checkpoint,
      "checkpoint_sha256": run.origins.fingerprints,
      "policy_start": run.policy_start(round),
      "reference": run.reference(round),
      "reward_update": run.config.reward.update,
      "reward_start": run.reward_start(round),
      "data_sha256": files.read_json(run.run_dir / "data.json")["sha256"],
      "sampler": dataclasses.asdict(run.config.sampling.training),
      "evaluation_sampler": dataclasses.asdict(run.config.sampling.evaluation),
      "devices": f"{jax.device_count()} {jax.devices()[0].device_kind}",
      "mesh": dict(run.mesh.shape),
      "jax": jax.__version__,
    },
  )


def drop_old_checkpoints(run: RunContext, round: int) -> None:
  """Deletes the checkpoints of rounds before the newest `checkpoints.keep`; round 0's stay."""
  if not run.is_writer:
    return
  for old in range(1, round - run.config.checkpoints.keep + 1):
    for player in (run.policy_after(old), run.reward_after(old)):
      if player not in (run.policy_after(0), run.reward_after(0)):
        with contextlib.suppress(FileNotFoundError):
          shutil.rmtree(run.checkpoint_dir(player))


def barrier(name: str) -> None:
  """Waits until every process is here: what the first one wrote is there for all."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def _read_if_there(path: Path) -> Any:
  return files.read_json(path) if path.exists() else None


def _differences(old: Any, new: Any, field: str) -> list[tuple[str, Any, Any]]:
  if isinstance(old, dict) and isinstance(new, dict):
    names = sorted(old.keys() | new.keys())
    return [
      found
      for name in names
      for found in _differences(old.get(name), new.get(name), f"{field}.{name}")
    ]
  return [] if old == new else [(field, old, new)]


def _describe(data: GameData, codec: Codec) -> dict[str, Any]:
  """What data.json holds: the hash, the sizes, what each source gave and what was cut."""
  return {
    "sha256": fingerprint(data),
    **_sizes(data),
    "sources": [report.to_dict() for report in data.reports],
    "truncated": truncated(codec, data),
  }


def _examples(data: GameData) -> list[Preference | Demonstration | Query]:
  """One of each kind, of what is trained on."""
  return [data.reward.preferences[0], data.reward.golden[0], data.policy.queries[0]]


def _sizes(data: GameData) -> dict[str, Any]:
  splits = {"reward": data.reward, "policy": data.policy, "test": data.test}
  return {
    "demonstrations": len(data.demonstrations),
    **{
      name: {field: len(records) for field, records in vars(split).items()}
      for name, split in splits.items()
    },
  }


def _training_texts(data: GameData) -> list[str]:
  """Every text but the test side's."""
  texts = []
  for split in (data.reward, data.policy):
    texts += [text for record in split.preferences for text in (record.query, *record.responses)]
    texts += [text for record in split.golden for text in (record.query, record.response)]
    texts += [record.query for record in split.queries]
  texts += [text for record in data.demonstrations for text in (record.query, record.response)]
  return texts
