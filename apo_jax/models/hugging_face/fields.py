"""Which fields of a config.json are read, which may be passed over, and which are refused.

The class of the family in the `transformers` library says which fields the family has. A field that
it has is used, is harmless, or must be as that class sets it. A field that it has not is ignored
there: it is refused where its name says that it changes what is computed, and said where not.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

from absl import logging
from transformers import PreTrainedConfig

from apo_jax.config.fields import ConfigError

# What `config` and `rope` read, of the families whose class has it; they check every value.
READ = frozenset(
  (
    *("vocab_size", "hidden_size", "intermediate_size", "head_dim", "rms_norm_eps"),
    *("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "tie_word_embeddings"),
    *("hidden_act", "hidden_activation", "attention_bias", "mlp_bias", "query_pre_attn_scalar"),
    *("attn_logit_softcapping", "final_logit_softcapping", "use_bidirectional_attention"),
    *("attention_multiplier", "embedding_multiplier", "residual_multiplier", "logits_scaling"),
    *("layer_types", "sliding_window", "use_sliding_window", "max_window_layers"),
    *("no_rope_layers", "no_rope_layer_interval", "rope_parameters"),
    "original_max_position_embeddings",
  )
)
# Fields that every class reads without naming them, and those of one family.
_OF_EVERY_CLASS = frozenset(("head_dim", "partial_rotary_factor", "rope_scaling", "rope_theta"))
_OF_ONE_CLASS = {"gemma3_text": frozenset(("rope_local_base_freq", "sliding_window_pattern"))}

# What says nothing of a forward pass: dropout, first weights, what caches, kernels, tokenizers and
# samplers do, names and versions. `pretraining_tp` splits products without changing them.
_HARMLESS = re.compile(
  r".*(dropout|_pdrop|initializer|_version|flash|sdpa|implementation|unsloth|_token_ids?|_name).*"
  r"|.*max_(position_embeddings|length|seq_?len).*"
  r"|(architectures|auto_map|dtype|finetuning_task|id2label|is_decoder|is_llama_config|keys_to_ignore"
  r"_at_inference|label2id|language|license|max_sequence_length|model_type|name_or_path|num_labels"
  r"|output_attentions|output_hidden_states|pretraining_tp|problem_type|return_dict"
  r"|task_specific_params|tokenizer_class|torch_dtype|torchscript|transformers\.js_config"
  r"|use_bfloat16|use_cache|quantization_config"
  # OpenRLHF's reward models, whose statistics are said where the checkpoint is read.
  r"|mean|std|normalize_reward|value_head_prefix)"
)
# A second name that some files have for a field; it must say the same.
_SECOND_NAMES = {
  "hidden_act": "hidden_activation",
  "hidden_activation": "hidden_act",
  "layer_norm_eps": "rms_norm_eps",
  "norm_eps": "rms_norm_eps",
  "sliding_window_size": "sliding_window",
}
# They say what `layer_types` says layer by layer.
_PATTERNS = ("max_window_layers", "sliding_window_pattern", "_sliding_window_pattern")
_COMPUTES = re.compile(
  r"act|alibi|att|bias|cap|chunk|clip|conv|encoder|expert|head|kv|lora|mamba|moe|mrope|mtp|mup"
  r"|multiplier|norm|parallel|per_layer|pos|qk|resid|rope|rotary|scal|share|sink|ssm|window"
)


def require(condition: bool, where: str, name: str, value: Any, supported: str) -> None:
  """Refuses a field's value.

  Args:
    condition: that holds of a value which is supported.
    where: the config field and the file, for the error.
    name: the file's field.
    value: its value.
    supported: what it may be.

  Raises:
    ConfigError: `condition` does not hold.
  """
  if not condition:
    raise ConfigError(f"{where} has {name} {value!r}; supported: {supported}.")


def check_fields(given: Mapping[str, Any], config: PreTrainedConfig, where: str) -> None:
  """Refuses what would change the computation and is not read, and says what else is not.

  Args:
    given: config.json.
    config: what the family's class makes of it.
    where: the config field and the file, for the error.

  Raises:
    ConfigError: for the first such field.
  """
  family = config.model_type
  declared = {field.name: field.default for field in dataclasses.fields(config)}
  read = (READ & declared.keys()) | _OF_EVERY_CLASS | _OF_ONE_CLASS.get(family, frozenset())
  unread = {}
  for name, value in given.items():
    if name in read or _HARMLESS.fullmatch(name):
      continue
    if name in declared:
      require(value == declared[name], where, name, value, f"{declared[name]!r}")
    elif name == "layer_types" or _is_neutral(value) or _is_told_elsewhere(name, given):
      continue  # the layers' types are compared where they are made
    elif name in READ or _COMPUTES.search(name):
      raise ConfigError(
        f"{where} has {name} {value!r}, which a {family} of the transformers library does not read,"
        " though its name says that it changes what is computed; it must be left out, or model_type"
        " must name the family that reads it."
      )
    else:
      unread[name] = value
  if unread:
    listed = ", ".join(f"{name} {value!r}" for name, value in unread.items())
    _say(f"{where} has fields that nothing reads: {listed}.")


def _is_told_elsewhere(name: str, given: Mapping[str, Any]) -> bool:
  """Whether another field decides, or says the same."""
  if name in _SECOND_NAMES and _SECOND_NAMES[name] in given:
    return given[name] == given[_SECOND_NAMES[name]]
  if name == "max_window_layers" and not given.get("use_sliding_window"):
    return True
  return name in _PATTERNS and bool(given.get("layer_types"))


def _is_neutral(value: Any) -> bool:
  """Whether a field says that something is off, as most that are of no use do."""
  return value in (None, False, 0, "", [], {}) or (value == 1 and value is not True)


@functools.cache
def _say(text: str) -> None:
  """Warns once: a file is read for several players."""
  logging.warning("%s", text)
