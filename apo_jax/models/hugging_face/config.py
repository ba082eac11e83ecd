"""A Hugging Face checkpoint's directory, and what its config.json says about the decoder."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import huggingface_hub
import transformers
from huggingface_hub.errors import (
  HfHubHTTPError,
  HFValidationError,
  LocalEntryNotFoundError,
)

from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import ModelConfig
from apo_jax.models.architecture import Architecture, LayerKind, Rope
from apo_jax.models.hugging_face.names import FAMILIES, GEMMA

CONFIG_FILE = "config.json"
GENERATION_FILE = "generation_config.json"

_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
# Some repositories hold the same weights twice: in folders, or in one file beside the parts.
_OTHER_FILES = ("*/*", "consolidated*")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")

_ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
_REWARD_SUFFIX = "ForSequenceClassification"
_POLICY_SUFFIX = "ForCausalLM"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """A Hugging Face checkpoint that can be imported.

  Attributes:
    directory: of config.json, safetensors and tokenizer files.
    family: its "model_type", one of `hugging_face_names.FAMILIES`.
    architecture: of its decoder.
    is_reward: it is a sequence classifier of one label, and has no language-model head.
    hf_config: config.json as it is.
  """

  directory: Path
  family: str
  architecture: Architecture
  is_reward: bool
  hf_config: dict[str, Any]


def resolve_directory(name: str, field: str) -> Path:
  """The directory of a checkpoint: `name` itself, or where the hub's files of that name are.

  On a pod every process calls it, and each machine keeps its own copy in the hub's cache.

  Args:
    name: a directory, or a name on the Hugging Face hub, "owner/model" or "owner/model@revision".
    field: the config field that gave it, for errors.

  Raises:
    ConfigError: there is no such directory, and the hub has no such model or cannot be reached.
  """
  if Path(name).is_dir():
    return Path(name)
  wanted = "it must be a directory or the name of a model on the Hugging Face hub, 'owner/model'"
  model, _, revision = name.partition("@")
  if not _HUB_NAME.fullmatch(model):
    raise ConfigError(f"{field} is {name!r}, which is not a directory; {wanted}.")
  try:
    found = huggingface_hub.snapshot_download(
      model,
      revision=revision or None,
      allow_patterns=list(_FILES),
      ignore_patterns=list(_OTHER_FILES),
    )
  except HFValidationError as error:
    raise ConfigError(f"{field} is {name!r}, which is not a directory; {wanted}.") from error
  except LocalEntryNotFoundError as error:
    raise ConfigError(
      f"{field} is {name!r}, which is neither a directory nor in the hub's cache, and the hub "
      f"cannot be reached; {wanted}."
    ) from error
  except HfHubHTTPError as error:
    reason = str(error).strip().splitlines()[-1].rstrip(".")
    raise ConfigError(
      f"{field} is {name!r}, which the hub does not give ({reason}); {wanted}."
    ) from error
  return Path(found)


def read_architecture(directory: Path, model: ModelConfig, field: str) -> Checkpoint:
  """What the checkpoint in `directory` is, from its config.json.

  Args:
    directory: of the checkpoint.
    model: gives `remat`, the types and `attention`, which no checkpoint says.
    field: the config field that named the checkpoint, for errors.

  Raises:
    ConfigError: for a file that cannot be read and for all that the decoder does not compute:
      other families, quantised weights, other activations, biases, rotary scalings or heads.
  """
  where = f"{field} is {str(directory)!r}, whose {CONFIG_FILE}"
  given = _read_json(directory / CONFIG_FILE, field)
  family = given.get("model_type")
  _require(family in FAMILIES, where, "model_type", family, ", ".join(FAMILIES))
  _require(
    not given.get("quantization_config"),
    where,
    "quantization_config",
    given.get("quantization_config"),
    "weights in float32, bfloat16 or float16",
  )
  try:
    config = transformers.AutoConfig.from_pretrained(directory, local_files_only=True)
  except Exception as error:  # each family's class fails in its own ways on odd values
    reason = " ".join(str(error).split()).rstrip(".")
    raise ConfigError(f"{where} is not a valid config of {family}: {reason}.") from error
  return Checkpoint(
    directory=directory,
    family=family,
    architecture=_architecture(config, family, model, where),
    is_reward=_is_reward(given, config.num_labels, where),
    hf_config=given,
  )


def read_ends(directory: Path, field: str) -> frozenset[int]:
  """The ids that end a response by the checkpoint's generation_config.json, or its config.json.

  As `transformers.generate` reads them: the second counts where there is no first.

  Args:
    directory: of the checkpoint.
    field: the config field that named the checkpoint, for errors.

  Raises:
    ConfigError: the file cannot be read, or has an eos_token_id that is no id and no list of ids.
  """
  names = [name for name in (GENERATION_FILE, CONFIG_FILE) if (directory / name).exists()]
  if not names:
    return frozenset()
  given = _read_json(directory / names[0], field)
  where = f"{field} is {str(directory)!r}, whose {names[0]}"
  named = given.get("eos_token_id")
  ids = named if isinstance(named, list) else [] if named is None else [named]
  _require(all(type(id) is int for id in ids), where, "eos_token_id", named, "an id, a list of ids")
  return frozenset(ids)


def _architecture(
  config: transformers.PretrainedConfig, family: str, model: ModelConfig, where: str
) -> Architecture:
  """The decoder of a family's config; `config` has the family's defaults filled in."""
  gemma = family in GEMMA
  name = "hidden_activation" if gemma else "hidden_act"
  activation = getattr(config, name)
  _require(activation in _ACTIVATIONS, where, name, activation, ", ".join(_ACTIVATIONS))
  for switch in ("attention_bias", "mlp_bias", "use_bidirectional_attention"):
    value = getattr(config, switch, None)
    _require(not value, where, switch, value, "false")
  head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
  attention_softcap = config.attn_logit_softcapping if family == "gemma2" else None
  return Architecture(
    vocab_size=config.vocab_size,
    embed_dim=config.hidden_size,
    heads=config.num_attention_heads,
    kv_heads=config.num_key_value_heads,
    head_dim=head_dim,
    mlp_dim=config.intermediate_size,
    kinds=_kinds(config, family, where),
    norm_epsilon=config.rms_norm_eps,
    tied_embeddings=bool(config.tie_word_embeddings),
    query_scale=(config.query_pre_attn_scalar if gemma else head_dim) ** -0.5,
    remat=model.remat,
    compute_dtype=model.compute_dtype,
    attention=model.attention,
    master_dtype=model.master_dtype,
    frozen_dtype=model.frozen_dtype,
    activation=_ACTIVATIONS[activation],
    # Qwen2 has biases without saying so. Other families' switch would add one to the output too.
    attention_bias=family == "qwen2",
    query_key_norms=family in ("qwen3", "gemma3_text"),
    unit_offset_norms=gemma,
    post_norms=gemma,
    scaled_embeddings=gemma,
    attention_softcap=float(attention_softcap or 0.0),
    logits_softcap=float((gemma and config.final_logit_softcapping) or 0.0),
  )


def _kinds(config: transformers.PretrainedConfig, family: str, where: str) -> tuple[LayerKind, ...]:
  """Each layer's rotary positions and window."""
  layers = config.num_hidden_layers
  types = getattr(config, "layer_types", None)
  if family == "llama":
    types = ["full_attention"] * layers
  elif family == "mistral":  # a window, where there is one, is every layer's
    types = ["sliding_attention" if config.sliding_window else "full_attention"] * layers
  with_rope = config.no_rope_layers if family == "smollm3" else [1] * layers
  _require(len(types) == layers, where, "layer_types", types, f"a list of {layers}")
  _require(len(with_rope) >= layers, where, "no_rope_layers", with_rope, f"a list of {layers}")
  kinds = []
  for layer_type, has_rope in zip(types, with_rope[:layers], strict=True):
    known = layer_type in ("full_attention", "sliding_attention")
    _require(known, where, "layer_types", layer_type, "full_attention, sliding_attention")
    parameters = config.rope_parameters
    if family == "gemma3_text":
      parameters = parameters[layer_type]
    rope = _rope(parameters, where) if has_rope else None
    window = config.sliding_window if layer_type == "sliding_attention" else 0
    kinds.append(LayerKind(rope, window or 0))
  return tuple(kinds)


def _rope(parameters: dict[str, Any], where: str) -> Rope:
  """The rotary positions of `rope_parameters`, or of an older file's `rope_scaling`."""
  kind = parameters["rope_type"]
  _require(
    kind in ("default", "linear", "llama3"), where, "rope_type", kind, "default, linear, llama3"
  )
  part = parameters.get("partial_rotary_factor") or 1.0
  _require(part == 1.0, where, "partial_rotary_factor", part, "1.0")
  theta = float(parameters["rope_theta"])
  if kind == "default":
    return Rope(theta)
  if kind == "linear":
    return Rope(theta, "linear", float(parameters["factor"]))
  return Rope(
    theta,
    "llama3",
    float(parameters["factor"]),
    float(parameters["low_freq_factor"]),
    float(parameters["high_freq_factor"]),
    int(parameters["original_max_position_embeddings"]),
  )


def _is_reward(given: dict[str, Any], labels: int, where: str) -> bool:
  """Whether the checkpoint is a reward model; a file that names no class is a language model."""
  classes = given.get("architectures") or [_POLICY_SUFFIX]
  is_reward = classes[0].endswith(_REWARD_SUFFIX)
  known = is_reward or classes[0].endswith(_POLICY_SUFFIX)
  _require(known, where, "architectures", classes, f"…{_POLICY_SUFFIX}, …{_REWARD_SUFFIX}")
  if is_reward:
    _require(labels == 1, where, "num_labels", labels, "1, a reward")
  return is_reward


def _read_json(path: Path, field: str) -> dict[str, Any]:
  try:
    given = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError as error:
    raise ConfigError(
      f"{field} is {str(path.parent)!r}, which has no {path.name}; it must be a directory with "
      f"{path.name} and safetensors files."
    ) from error
  except ValueError as error:
    raise ConfigError(f"{field} is {str(path.parent)!r}, whose {path.name} is not JSON.") from error
  if not isinstance(given, dict):
    raise ConfigError(f"{field} is {str(path.parent)!r}, whose {path.name} is no JSON object.")
  return given


def _require(condition: bool, where: str, name: str, value: Any, supported: str) -> None:
  if not condition:
    raise ConfigError(f"{where} has {name} {value!r}; supported: {supported}.")
