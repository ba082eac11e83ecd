"""Dialogues that chat templates have written come apart into their turns."""

import pytest

from apo_jax.data.dialogue import Message
from apo_jax.data.written_dialogues import HalfWritten, take_apart, without_end, without_left_end

S, Q, A, R = "Be brief.", "Name a sea.", "The Baltic.", "And a lake?"
TURNS = (Message("user", Q), Message("assistant", A), Message("user", R), Message("assistant", ""))
WITH_SYSTEM = (Message("system", S), *TURNS)


def repeated(user, assistant, system="", start=""):
  """A prompt of two questions; each part has {} where its content stands."""
  opened = assistant.split("{}")[0]
  turns = user.format(Q) + assistant.format(A) + user.format(R) + opened
  return start + (system.format(S) if system else "") + turns


def headed(opening, end, *, model="assistant", start="", system=True):
  def turn(role):
    return f"{opening.replace('ROLE', role)}{{}}{end}"

  return repeated(turn("user"), turn(model), turn("system") if system else "", start)


DATE = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
WRITTEN = {
  "ChatML": headed("<|im_start|>ROLE\n", "<|im_end|>\n"),
  "Phi 4": headed("<|im_start|>ROLE<|im_sep|>", "<|im_end|>"),
  "Qwen 3": headed("<|im_start|>ROLE\n", "<|im_end|>\n") + "<think>\n\n</think>\n\n",
  "Llama 3": headed(
    "<|start_header_id|>ROLE<|end_header_id|>\n\n", "<|eot_id|>", start="<|begin_of_text|>"
  ).replace(S, DATE + S),
  "Llama 3, date alone": headed(
    "<|start_header_id|>ROLE<|end_header_id|>\n\n", "<|eot_id|>", start="<|begin_of_text|>"
  ).replace(S, DATE),
  "Llama 4": headed("<|header_start|>ROLE<|header_end|>\n\n", "<|eot|>"),
  "Llama 2": f"<s>[INST] <<SYS>>\n{S}\n<</SYS>>\n\n{Q} [/INST] {A} </s><s>[INST] {R} [/INST]",
  "Mistral": f"<s>[INST] {Q} [/INST] {A}</s>[INST] {R} [/INST]",
  "Mistral, system": (
    f"<s>[SYSTEM_PROMPT]{S}[/SYSTEM_PROMPT][INST]{Q}[/INST]{A}</s>[INST]{R}[/INST]"
  ),
  "Gemma": headed(
    "<start_of_turn>ROLE\n", "<end_of_turn>\n", model="model", start="<bos>", system=False
  ),
  "Zephyr": headed("<|ROLE|>\n", "</s>\n"),
  "Phi 3": headed("<|ROLE|>\n", "<|end|>\n"),
  "OLMo": repeated("<|user|>\n{}\n", "<|assistant|>\n{}<|endoftext|>\n", "", "<|endoftext|>"),
  "Granite": headed("<|start_of_role|>ROLE<|end_of_role|>", "<|end_of_text|>\n"),
  "gpt-oss": repeated(
    "<|start|>user<|message|>{}<|end|>", "<|start|>assistant<|channel|>final<|message|>{}<|end|>"
  ),
  "Command R": repeated(
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{}<|END_OF_TURN_TOKEN|>",
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{}<|END_OF_TURN_TOKEN|>",
    "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>{}<|END_OF_TURN_TOKEN|>",
    "<BOS_TOKEN>",
  ),
  "DeepSeek": repeated(
    "<｜User｜>{}", "<｜Assistant｜>{}<｜end▁of▁sentence｜>", "", "<｜begin▁of▁sentence｜>"
  ),
  "DeepSeek, thinking": repeated("<｜User｜>{}", "<｜Assistant｜>{}<｜end▁of▁sentence｜>")
  + "<think>\n",
  "EXAONE": headed("[|ROLE|]", "[|endofturn|]\n"),
  "GLM 4": repeated("<|user|>\n{}", "<|assistant|>\n{}", "<|system|>\n{}", "[gMASK]<sop>"),
  "OpenChat": repeated(
    "GPT4 Correct User: {}<|end_of_turn|>", "GPT4 Correct Assistant: {}<|end_of_turn|>", "", "<s>"
  ),
  "Alpaca": repeated("### Instruction:\n{}\n\n", "### Response:\n{}\n\n"),
  "Guanaco": repeated("### Human: {}", "### Assistant: {}"),
  "Vicuna": repeated("USER: {} ", "ASSISTANT: {}</s>"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_prompt_comes_apart(name):
  text = WRITTEN[name]
  expected = WITH_SYSTEM if S in text else TURNS
  assert take_apart(text) == take_apart(text.strip()) == take_apart(f"\n{text}") == expected


@pytest.mark.parametrize("name", WRITTEN)
def test_a_whole_dialogue_comes_apart(name):
  """Up to the answer's end or without it, as it is cut off in data sets."""
  text = WRITTEN[name].removesuffix("<think>\n\n</think>\n\n").removesuffix("<think>\n")
  for said in (f"{text}Garda.", f"{text}Garda.</s>", f"{text}Garda.<|im_end|>\n"):
    assert take_apart(said)[-2:] == (Message("user", R), Message("assistant", "Garda."))


def test_one_instruction_of_alpaca_with_its_preamble_comes_apart():
  text = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    f"the request.\n\n### Instruction:\n{Q}\n\n### Response:\n"
  )
  assert take_apart(text) == (Message("user", Q), Message("assistant", ""))


def test_an_answer_comes_apart_alone():
  for text in (f"<|assistant|>\n{A}</s>\n", f"<|im_start|>assistant\n{A}<|im_end|>"):
    assert take_apart(text, is_answer=True) == (Message("assistant", A),)
  # An answer may write a dialogue out in words.
  for text in ("USER: Hi ASSISTANT: Yo", "### Instruction:\nx\n\n### Response:\ny"):
    assert take_apart(text, is_answer=True) is None


@pytest.mark.parametrize(
  "text",
  [
    "",
    "Name a sea.",
    "What is <|im_start|>user?",
    "<|im_start|> is a token, and so is <|im_end|>",
    "<|user|> is what?",
    "[INST] what does this mean?",
    "USER: hi",
    "### Instruction: be nice",
    "System: all is well",
    "<s>old</s> new",
    "Compare [INST] and [/INST].",
  ],
)
def test_a_text_that_names_tokens_is_text(text):
  assert take_apart(text) is None


@pytest.mark.parametrize(
  "text",
  [
    f"<|im_start|>user\n{Q}",
    f"<|im_start|>user\n{Q}\n<|im_start|>assistant\n",
    f"<|header_start|>user<|header_end|>\n\n{Q} and <|header_start|>user<|header_end|>\n\n",
    f"[SYSTEM_PROMPT]{S}[/SYSTEM_PROMPT]{Q}[INST]{Q}[/INST]",
  ],
)
def test_what_belongs_to_no_turn_is_refused(text):
  with pytest.raises(HalfWritten):
    take_apart(text)


@pytest.mark.parametrize(
  ("text", "left"),
  [
    ("A.<|im_end|>", "A."),
    ("A.</s>", "A."),
    ("A.<|eot_id|>\n", "A."),
    ("A.\n<|im_end|>\n<|endoftext|>", "A."),
    ("It is <|im_end|>", "It is <|im_end|>"),
    ("`</s>`", "`</s>`"),
    ("<s>old</s>", "<s>old</s>"),
    ("A.", "A."),
  ],
)
def test_an_end_that_was_left_behind_the_last_word_goes(text, left):
  assert without_left_end(text) == left


def test_behind_a_written_prompt_every_end_goes():
  assert without_end(" A </s>") == " A" and without_end("A<|im_end|>\n<|endoftext|>") == "A"
