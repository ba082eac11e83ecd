"""Any text, in any turn: it comes back from the tokens, and they are the template's own."""

from hypothesis import given, settings
from hypothesis import strategies as st

from apo_jax.data.dialogue import (
  Message,
  parse_query,
  parse_response,
  render_query,
  render_response,
)
from apo_jax.data.records import Demonstration
from apo_jax.data.template_check import check_template
from tests.data.test_template_check import family_codec

_PIECES = (
  *("<|im_start|>", "<|im_end|>", "<eos>", "<bos>", "<|eot|>", "<|head|>user<|/head|>\n\n"),
  *("\n\nHuman:", "\n\nAssistant:", "\n\nSystem:", "\ue000\ue001", "\ue002"),
  *("    ", "\n", "\t", " ", "\r\n", "é", "👩‍👩‍👧", "\u2028", "red box", "x", ".", "12"),
)
_TEXTS = st.lists(st.one_of(st.sampled_from(_PIECES), st.text(max_size=3)), min_size=1, max_size=8)
_CONTENTS = _TEXTS.map("".join).map(str.strip).filter(bool)


# A system turn or none, turns, and what indents the last answer.
_DIALOGUES = st.tuples(
  st.none() | _CONTENTS,
  st.lists(_CONTENTS, min_size=2, max_size=4).map(lambda some: some[: len(some) // 2 * 2]),
  st.sampled_from(["", " ", "    "]),
)


@given(
  st.sampled_from(["chatml_without_prompt", "llama_3", "llama_2", "qwen_3"]),
  st.lists(_DIALOGUES, min_size=10, max_size=10),
)
@settings(max_examples=8, derandomize=True, deadline=None, database=None)
def test_any_dialogue(name, dialogues):
  form = family_codec(name).form
  records = []
  for system, (*said, answer), indent in dialogues:
    turns = [Message(("user", "assistant")[n % 2], text) for n, text in enumerate(said)]
    turns = [*([] if system is None else [Message("system", system)]), *turns]
    last = Message("assistant", indent + answer)
    query, response = render_query(turns), render_response([last])
    if indent:
      response = f" {indent}{response.removeprefix(' ')}"  # the canonical form strips turns
    assert list(parse_query(query)) == turns and list(parse_response(response)) == [last]
    (ids,) = form.response_ids([response])
    assert form.tokenizer.decode(ids) == f"{form.opening}{last.content}{form.closing}"
    records.append(Demonstration("d", query, response))
  # Each once, and small dialogues of our own beside them.
  assert check_template(family_codec(name), records).compared > 10
