"""What a tokenizer makes of some texts; needs nothing but transformers."""

from typing import Any

import transformers

TEXTS = (
  "How do plants grow?",
  " They turn  light\n into sugar é<|im_end|>",
  "The sea </s> is <eos> deep <think>x</think>",
)
MESSAGES = (
  {"role": "user", "content": "Why?"},
  {"role": "assistant", "content": " No.\n"},
  {"role": "user", "content": "How deep is the sea?"},
)


def ids_of(tokenizer: transformers.PreTrainedTokenizerBase) -> dict[str, Any]:
  """What a tokenizer makes of the texts, and of its own ids."""
  special = [tokenizer(text)["input_ids"] for text in TEXTS]
  found = {
    "plain": [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS],
    "special": special,
    "decoded": [tokenizer.decode(ids) for ids in special],
    "skipped": [tokenizer.decode(ids, skip_special_tokens=True) for ids in special],
    "bos": tokenizer.bos_token_id,
    "eos": tokenizer.eos_token_id,
    "padding": tokenizer.pad_token_id,
    "size": len(tokenizer),
    "inputs": sorted(tokenizer(TEXTS[0]).keys()),
  }
  if tokenizer.chat_template:
    found["chat"] = [
      tokenizer.apply_chat_template(list(MESSAGES), add_generation_prompt=prompt, tokenize=False)
      for prompt in (False, True)
    ]
  return found
