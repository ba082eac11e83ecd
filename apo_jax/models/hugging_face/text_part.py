"""The text part of a checkpoint of images and text: its config, and which of the tensors are its.

Gemma 3 from 4B up is published so alone. Its language model is a `gemma3_text`.
"""

from collections.abc import Iterable
from typing import Any

from apo_jax.config.fields import ConfigError

# What config.json's "model_type" says, and what the text part's is.
IMAGE_FAMILIES = {"gemma3": "gemma3_text"}

_CLASSES = {
  "Gemma3ForConditionalGeneration": "Gemma3ForCausalLM",
  "Gemma3ForSequenceClassification": "Gemma3TextForSequenceClassification",
}
# What of the whole is said beside the parts, and is of the text too.
_OF_BOTH = (
  *("bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings", "dtype", "torch_dtype"),
  *("id2label", "label2id", "num_labels", "problem_type", "quantization_config"),
)
# How files of transformers before 4.52 name the text part's tensors, and how those since do.
_PREFIXES = (("language_model.model.", "model."), ("model.language_model.", "model."))
_OLD_HEAD, _HEAD = "language_model.lm_head.weight", "lm_head.weight"
_IMAGES = tuple(
  f"{outer}{part}."
  for outer in ("", "model.")
  for part in ("vision_tower", "multi_modal_projector")
)


def text_config(given: dict[str, Any], where: str) -> dict[str, Any]:
  """config.json of the text part alone.

  Args:
    given: config.json of a family among `IMAGE_FAMILIES`.
    where: the config field and the file, for errors.

  Raises:
    ConfigError: it has no text part, or is of a class that is not known.
  """
  own, classes = given.get("text_config"), given.get("architectures") or [*_CLASSES][:1]
  if not isinstance(own, dict):
    raise ConfigError(f"{where} has text_config {own!r}; it must describe the text part.")
  if classes[0] not in _CLASSES:
    raise ConfigError(f"{where} has architectures {classes}; supported: {', '.join(_CLASSES)}.")
  shared = {name: given[name] for name in _OF_BOTH if name in given}
  return {
    **own,
    **shared,
    "architectures": [_CLASSES[classes[0]]],
    "model_type": IMAGE_FAMILIES[given["model_type"]],
  }


def text_names(stored: Iterable[str]) -> dict[str, str]:
  """The tensors of the text part among those that a checkpoint stores.

  Args:
    stored: the names of all tensors. Without images among them they are left as they are.

  Returns:
    The name that the tensor has in a checkpoint of text alone, and the one that is stored.
  """
  stored = list(stored)
  if not any(name.startswith((*_IMAGES, *dict(_PREFIXES))) for name in stored):
    return {name: name for name in stored}
  found = {}
  for name in stored:
    if name.startswith(_IMAGES):
      continue
    plain = _HEAD if name == _OLD_HEAD else name
    for prefix, own in _PREFIXES:
      plain = own + plain.removeprefix(prefix) if plain.startswith(prefix) else plain
    found[plain] = name
  return found
