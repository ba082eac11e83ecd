"""Small tokenizers with chat templates like those of the families of models that are in use."""

import copy
import functools

import tokenizers
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from tests import tiny

# A default system turn, as ChatML models bring one.
CHATML = """\
{% if messages[0].role != 'system' %}<|im_start|>system
Be kind.<|im_end|>
{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

# As Llama 3: bos first, turns with headers, a turn's end that is not eos.
HEADERS = """\
{{- bos_token -}}
{%- for message in messages -%}
  {{- '<|head|>' + message.role + '<|/head|>\\n\\n' + message.content|trim + '<|eot|>' -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|head|>assistant<|/head|>\\n\\n' }}{% endif -%}"""

# As Gemma: no system turns, roles take turns, the assistant is called model.
TURNS = """\
{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system turns') }}\
{% endif %}{% for message in messages %}\
{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('roles must take turns') }}{% endif %}\
<turn>{{ 'model' if message.role == 'assistant' else 'user' }}
{{ message.content|trim }}</turn>
{% endfor %}{% if add_generation_prompt %}{{ '<turn>model\\n' }}{% endif %}"""

# As Mistral and Llama 2: instructions in brackets, eos behind answers, which follow a blank.
BRACKETS = """\
{{- bos_token }}
{%- set system = messages[0].content if messages[0].role == 'system' else '' %}
{%- for message in messages if message.role != 'system' %}
  {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
    {{- raise_exception('roles must take turns') }}
  {%- endif %}
  {%- if message.role == 'user' %}
    {{- '[INST] ' + (system + '\\n\\n' if system and loop.last else '') + message.content }}
    {{- ' [/INST]' }}
  {%- else %}
    {{- ' ' + message.content + eos_token }}
  {%- endif %}
{%- endfor %}"""

# As Qwen 3 and SmolLM 3: thoughts before an answer unless they are switched off, and a date.
THOUGHTS = """\
<|im_start|>system
Today is {{ strftime_now('%d %B %Y') }}.<|im_end|>
{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% endif %}{% endif %}"""

TEMPLATES = {
  "chatml": (CHATML, ["<|im_start|>", "<|im_end|>"]),
  "headers": (HEADERS, ["<|head|>", "<|/head|>", "<|eot|>"]),
  "turns": (TURNS, ["<turn>", "</turn>"]),
  "brackets": (BRACKETS, ["[INST]", "[/INST]"]),
  "thoughts": (THOUGHTS, ["<|im_start|>", "<|im_end|>"]),
}


@functools.cache
def tokenizer(name: str) -> transformers.PreTrainedTokenizerBase:
  """The tiny game's tokenizer with a family's template and special tokens."""
  template, special = TEMPLATES[name]
  made = copy.deepcopy(tiny.codec().tokenizer)
  made.add_tokens(special, special_tokens=True)
  made.chat_template = template
  return made


@functools.cache
def lines_tokenizer() -> transformers.PreTrainedTokenizerBase:
  """A byte-level tokenizer in the manner of Llama 3: tokens such as ".\\n\\n" end lines."""
  made = tokenizers.Tokenizer(models.BPE())
  words = tokenizers.Regex(r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
  made.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(words, behavior="isolated"),
      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
  )
  made.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=300,
    special_tokens=["<bos>", "<eos>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  texts = ["Ann.\n\nHuman: Who?\n\nAnn!?\n\nHuman: So.\n\n\nHuman"] * 3
  made.train_from_iterator(texts, trainer)
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=made, bos_token="<bos>", eos_token="<eos>"
  )


@functools.cache
def blank_tokenizer(scheme: str) -> transformers.PreTrainedTokenizerBase:
  """A tokenizer in the manner of SentencePiece, where words begin with a blank of their own.

  The blank of a text's first word is made by the pre-tokenizer ("first" or "always") or by the
  normalizer of older tokenizers ("normalizer").
  """
  made = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
  if scheme == "normalizer":
    made.normalizer = normalizers.Sequence(
      [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoders.Sequence(
      [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
  else:
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    made.decoder = decoders.Metaspace(prepend_scheme=scheme, split=False)
  special = ["<unk>", "<bos>", "<eos>", "[INST]", "[/INST]", "<turn>", "</turn>"]
  trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=special, show_progress=False)
  texts = ["Ann has it. Ben, I think.", "Who has the ball?\n\nmodel\nAnd the box?"] * 3
  made.train_from_iterator(texts, trainer)
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=made, unk_token="<unk>", bos_token="<bos>", eos_token="<eos>"
  )
