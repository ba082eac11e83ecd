"""Short chat templates in the manner of model families: their turns, their ends, their habits."""

from typing import NamedTuple


class Family(NamedTuple):
  """A template, the special tokens that it writes, and what a run must find in it.

  Attributes:
    template: Jinja.
    special: added to the tokenizer as special tokens.
    end: the token that ends a response.
    ends_query: what every query ends with.
  """

  template: str
  special: tuple[str, ...]
  end: str
  ends_query: str


def _turns(user: str, assistant: str, prompt: str, system: str = "", start: str = "") -> str:
  """A loop over messages; each part is what stands for the content of its role."""
  return (
    start
    + "{% for m in messages %}"
    + f"{{% if m.role == 'system' %}}{system}"
    + f"{{% elif m.role == 'user' %}}{user}"
    + f"{{% else %}}{assistant}{{% endif %}}"
    + "{% endfor %}"
    + (f"{{% if add_generation_prompt %}}{prompt}{{% endif %}}" if prompt else "")
  )


_C = "{{ m.content }}"
_TRIM = "{{ m.content|trim }}"
_EOS, _BOS = "{{ eos_token }}", "{{ bos_token }}"
_NO_SYSTEM = "{{ raise_exception('no system turns') }}"
_CHATML = ("<|im_start|>", "<|im_end|>")
_LOOP = (
  "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
)
_OPEN = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

# Thoughts of earlier turns are dropped, the last answer has its own before it, maybe empty.
_QWEN_3 = (
  "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}"
  "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
  "{% for m in messages %}{% set text = m.content %}{% set thought = '' %}"
  "{% if m.role == 'assistant' and '</think>' in text %}"
  "{% set thought = text.split('</think>')[0].split('<think>')[-1].strip('\\n') %}"
  "{% set text = text.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
  "{{ '<|im_start|>' + m.role + '\\n' }}"
  "{% if m.role == 'assistant' and loop.index0 > ns.last %}"
  "{{ '<think>\\n' + thought + '\\n</think>\\n\\n' }}{% endif %}"
  "{{ text + '<|im_end|>\\n' }}{% endfor %}"
)

FAMILIES: dict[str, Family] = {
  "chatml": Family(_LOOP + _OPEN, _CHATML, "<|im_end|>", "<|im_start|>assistant\n"),
  # Users' copies leave the generation prompt out.
  "chatml_without_prompt": Family(_LOOP, _CHATML, "<|im_end|>", "<|im_start|>assistant\n"),
  "chatml_last_turn_open": Family(
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% if not loop.last or m.role != 'assistant' %}<|im_end|>\n{% endif %}{% endfor %}" + _OPEN,
    _CHATML,
    "<|im_end|>",
    "<|im_start|>assistant\n",
  ),
  "llama_2": Family(
    "{% if messages[0].role == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system = '<<SYS>>\\n' + messages[0].content + '\\n<</SYS>>\\n\\n' %}{% else %}"
    "{% set loop_messages = messages %}{% set system = '' %}{% endif %}"
    "{% for m in loop_messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}{{ bos_token + '[INST] ' + (system if loop.first else '') + "
    "m.content.strip() + ' [/INST]' }}{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}"
    "{% endif %}{% endfor %}",
    (),
    "<eos>",
    " [/INST]",
  ),
  "llama_3": Family(
    "{% for m in messages %}{{ bos_token if loop.first else '' }}"
    "{{ '<|head|>' + m.role + '<|/head|>\\n\\n' + m.content|trim + '<|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|head|>assistant<|/head|>\\n\\n' }}{% endif %}",
    ("<|head|>", "<|/head|>", "<|eot|>"),
    "<|eot|>",
    "<|head|>assistant<|/head|>\n\n",
  ),
  "mistral_1": Family(
    _turns(f"[INST] {_C} [/INST]", f"{_C}{_EOS}", "", _NO_SYSTEM, _BOS), (), "<eos>", " [/INST]"
  ),
  # The system turn comes before the last question, and is lost where an answer follows.
  "mistral_3": Family(
    _BOS + "{% set system = '' %}{% if messages[0].role == 'system' %}"
    "{% set system = messages[0].content %}{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}{% if m.role == 'user' %}"
    "{{ '[INST] ' + (system + '\\n\\n' if system and loop.last else '') + m.content + '[/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}",
    ("[INST]", "[/INST]"),
    "<eos>",
    "[/INST]",
  ),
  "mistral_tekken": Family(
    _turns(f"[INST]{_C}[/INST]", f"{_C}{_EOS}", "", f"[SYSTEM]{_C}[/SYSTEM]", _BOS),
    ("[INST]", "[/INST]", "[SYSTEM]", "[/SYSTEM]"),
    "<eos>",
    "[/INST]",
  ),
  "gemma": Family(
    _turns(
      f"<turn>user\n{_TRIM}</turn>\n",
      f"<turn>model\n{_TRIM}</turn>\n",
      "{{ '<turn>model\\n' }}",
      _NO_SYSTEM,
      _BOS,
    ),
    ("<turn>", "</turn>"),
    "</turn>",
    "<turn>model\n",
  ),
  "zephyr": Family(
    _turns(
      f"<|user|>\n{_C}{_EOS}\n",
      f"<|assistant|>\n{_C}{_EOS}\n",
      "{{ '<|assistant|>\\n' }}",
      f"<|system|>\n{_C}{_EOS}\n",
    ),
    (),
    "<eos>",
    "<|assistant|>\n",
  ),
  # A whole dialogue ends in eos as well.
  "phi_3": Family(
    _turns(
      f"<|user|>\n{_C}<|end|>\n",
      f"<|assistant|>\n{_C}<|end|>\n",
      "{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}",
      f"<|system|>\n{_C}<|end|>\n",
    ),
    ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>"),
    "<|end|>",
    "<|assistant|>\n",
  ),
  "qwen_3": Family(
    _QWEN_3 + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}"
    "{% endif %}{% endif %}",
    _CHATML,
    "<|im_end|>",
    "<|im_start|>assistant\n<think>\n\n</think>\n\n",
  ),
  # The generation prompt opens a thought, which an answer does not follow.
  "qwen_3_thinking": Family(
    _QWEN_3 + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}",
    _CHATML,
    "<|im_end|>",
    "<|im_start|>assistant\n<think>\n\n</think>\n\n",
  ),
  # Thoughts are off by the prompt, of which whole dialogues show nothing.
  "prompt_switches_thoughts_off": Family(
    _LOOP
    + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think></think>' }}{% endif %}",
    _CHATML,
    "<|im_end|>",
    "<|im_start|>assistant\n<think></think>",
  ),
  "smollm_3": Family(
    "{% set off = enable_thinking is defined and not enable_thinking %}"
    "<|im_start|>system\nReasoning: {{ 'no' if off else 'yes' }}.<|im_end|>\n"
    "{% for m in messages %}{% if m.role == 'assistant' and off %}"
    "{{ '<|im_start|>assistant\\n<think>\\n\\n</think>\\n' + m.content.lstrip('\\n') }}"
    "{{ '<|im_end|>\\n' }}"
    "{% else %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{{ '<think>\\n\\n</think>\\n' if off else '' }}{% endif %}",
    _CHATML,
    "<|im_end|>",
    "<|im_start|>assistant\n<think>\n\n</think>\n",
  ),
  "deepseek": Family(
    _turns(
      f"<|User|>{_C}",
      f"<|Assistant|>{_C}{_EOS}",
      "{{ '<|Assistant|>' }}",
      _C,
      _BOS,
    ),
    ("<|User|>", "<|Assistant|>"),
    "<eos>",
    "<|Assistant|>",
  ),
  "deepseek_r1": Family(
    _turns(
      f"<|User|>{_C}",
      "<|Assistant|>{{ m.content.split('</think>')[-1] }}" + _EOS,
      "{{ '<|Assistant|><think>\\n' }}",
      _C,
      _BOS,
    ),
    ("<|User|>", "<|Assistant|>"),
    "<eos>",
    "<|Assistant|>",
  ),
  "olmo": Family(
    _turns(
      f"<|user|>\n{_C}\n",
      f"<|assistant|>\n{_C}{_EOS}" + "{% if not loop.last %}{{ '\\n' }}{% endif %}",
      "{{ '<|assistant|>\\n' }}",
      f"<|system|>\n{_C}\n",
      _BOS,
    ),
    (),
    "<eos>",
    "<|assistant|>\n",
  ),
  "granite": Family(
    "{% for m in messages %}{{ '<|role|>' + m.role + '<|/role|>' + m.content + '<|end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|role|>assistant<|/role|>' }}{% endif %}",
    ("<|role|>", "<|/role|>", "<|end|>"),
    "<|end|>",
    "<|role|>assistant<|/role|>",
  ),
  # Its last answer ends otherwise than those before, in a channel that the prompt leaves open.
  "channels": Family(
    _turns(
      f"<|start|>user<|message|>{_C}<|end|>",
      f"<|start|>assistant<|channel|>final<|message|>{_C}"
      "{{ '<|return|>' if loop.last else '<|end|>' }}",
      "<|start|>assistant",
      f"<|start|>system<|message|>{_C}<|end|>",
    ),
    ("<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>"),
    "<|return|>",
    "<|start|>assistant<|channel|>final<|message|>",
  ),
  # Nothing ends an answer: the next turn opens, which is no end.
  "glm": Family(
    _turns(f"<|user|>\n{_C}", f"<|assistant|>\n{_C}", "<|assistant|>\n", f"<|system|>\n{_C}"),
    ("<|user|>", "<|assistant|>", "<|system|>"),
    "<eos>",
    "<|assistant|>\n",
  ),
  "alpaca": Family(
    _turns(
      f"### Instruction:\n{_C}\n\n",
      f"### Response:\n{_C}{_EOS}\n\n",
      "{{ '### Response:\\n' }}",
      f"{_C}\n\n",
    ),
    (),
    "<eos>",
    "### Response:\n",
  ),
  "vicuna": Family(
    _turns(f"USER: {_C} ", f"ASSISTANT: {_C}{_EOS}", "ASSISTANT:", f"{_C} ", _BOS),
    (),
    "<eos>",
    "ASSISTANT:",
  ),
  # The blank is the prompt's, and the first word's token would have it.
  "vicuna_blank": Family(
    _turns(f"USER: {_C} ", f"ASSISTANT: {_C}{_EOS}", "{{ 'ASSISTANT: ' }}", f"{_C} ", _BOS),
    (),
    "<eos>",
    "ASSISTANT: ",
  ),
}
