"""How an exported model is spoken to: tokenizer, chat template, padding and generation config.

The tokenizer gets a chat template that writes queries as the run read them, the HH form included,
so that tools that speak in messages need to know nothing of the run.
"""

import copy
import json
from typing import Any

import transformers

from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import Config
from apo_jax.data.templates import find_template
from apo_jax.data.tokens import Codec

# Behind the last answer, if nothing is to be generated, stands eos: a whole sequence as the reward
# model reads it. Earlier answers have none.
_HH_TEMPLATE = """\
{%- set names = {"system": "System", "user": "Human", "assistant": "Assistant"} -%}
{{- BOS -}}
{%- for message in messages -%}
{{- "\\n\\n" + names[message["role"]] + ":" -}}
{%- set is_answer = loop.last and message["role"] == "assistant" -%}
{%- if is_answer -%}{{- SEPARATOR -}}{%- endif -%}
{{- " " + message["content"] | trim -}}
{%- if is_answer -%}{{- EOS -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "\\n\\nAssistant:" + SEPARATOR -}}{%- endif -%}
"""


def export_tokenizer(
  codec: Codec, config: Config, padding: int
) -> transformers.PreTrainedTokenizerBase:
  """A copy of the run's tokenizer that pads with `padding` and has the run's chat template.

  Raises:
    ConfigError: config.data.chat_template names a file that is gone.
  """
  tokenizer = copy.deepcopy(codec.tokenizer)
  tokenizer.pad_token = _token(codec, padding)
  template = find_template(codec.tokenizer, config.data.chat_template)
  tokenizer.chat_template = _hh_template(codec, config) if template is None else template
  return tokenizer


def policy_padding(codec: Codec) -> int:
  """The token that a policy's batches are padded with: the tokenizer's own, or eos."""
  padding = codec.tokenizer.pad_token_id
  return codec.eos if padding is None else padding


def reward_padding(codec: Codec, pooling: str) -> int:
  """The token that makes `transformers` read the reward where the run's pooling reads it.

  A sequence classifier reads the last token that is not this one. `eos` reads the eos token, so
  padding must be another. `last` reads the token before it: as padding is eos itself, a sequence
  is read at the same place with its eos and without.

  Raises:
    ConfigError: `pooling` reads several tokens, or there is no token to pad with.
  """
  tokenizer, eos = codec.tokenizer, codec.eos
  if pooling == "last":
    return eos
  if pooling != "eos":
    raise ConfigError(
      f"config.reward.pooling is {pooling!r}, which a sequence classifier of transformers cannot "
      "compute; a reward model can be exported whose pooling is 'last' or 'eos'."
    )
  special = sorted(id for id, token in tokenizer.added_tokens_decoder.items() if token.special)
  # bos comes last: it is needed at the front, where passing over it does no harm.
  candidates = [tokenizer.pad_token_id, tokenizer.unk_token_id, *special, tokenizer.bos_token_id]
  preferred = [id for id in candidates if id not in (None, eos, tokenizer.bos_token_id)]
  found = [*preferred, *(id for id in candidates if id not in (None, eos))]
  if not found:
    raise ConfigError(
      "config.reward.pooling is 'eos', and the tokenizer has no special token but eos; exporting "
      "needs another to pad with."
    )
  return found[0]


def generation_config(codec: Codec, config: Config, padding: int) -> dict[str, Any]:
  """generation_config.json: what ends a response, and the sampler of the run's evaluation.

  Stop strings are left out: with them `generate` would fail where it is given no tokenizer.
  """
  sampler, tokenizer = config.sampling.evaluation, codec.tokenizer
  others = sorted(codec.ends - {codec.eos})
  settings: dict[str, Any] = {
    "bos_token_id": tokenizer.bos_token_id,
    "eos_token_id": [codec.eos, *others],
    "pad_token_id": padding,
    "max_new_tokens": sampler.max_new_tokens,
    "repetition_penalty": sampler.repetition_penalty,
    "do_sample": sampler.temperature > 0,
  }
  if sampler.temperature > 0:  # transformers refuses these for greedy decoding
    settings |= {
      "temperature": sampler.temperature,
      # All tokens are no limit, which every tool reads alike. For "off" transformers has 0, some
      # versions of vLLM -1, and each refuses the other's; left out it is 50.
      "top_k": sampler.top_k or codec.size,
      "top_p": sampler.top_p,
    }
  return {name: value for name, value in settings.items() if value is not None}


def _hh_template(codec: Codec, config: Config) -> str:
  parts = {
    "BOS": "" if codec.bos is None else _token(codec, codec.bos),
    "SEPARATOR": config.data.separator,
    "EOS": _token(codec, codec.eos),
  }
  template = _HH_TEMPLATE
  for name, text in parts.items():
    template = template.replace(name, json.dumps(text))
  return template


def _token(codec: Codec, id: int) -> str:
  return codec.tokenizer.convert_ids_to_tokens(id)
