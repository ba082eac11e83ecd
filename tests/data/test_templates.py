import copy
import dataclasses
import os
from pathlib import Path

import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.data.chat_form import ChatForm, make_chat_form
from apo_jax.data.dialogue import Message, parse_query, render_query
from apo_jax.data.rendering import alternating, fold_system
from apo_jax.data.templates import HhForm, find_template, make_form
from apo_jax.data.tokens import load_tokenizer
from tests import tiny
from tests.data import chat_models

DATA = tiny.config().data
SYSTEM = Message("system", "Be brief.")
TURNS = [
  Message("user", "Who has the ball?"),
  Message("assistant", "Ann has it.\n\nThe red one."),
  Message("user", "And the box?"),
]
FAMILIES = [*chat_models.TEMPLATES]
# The end of a turn, and what stands between the opened turn and an answer.
ENDS = {
  "chatml": ("<|im_end|>", ""),
  "headers": ("<|eot|>", ""),
  "turns": ("</turn>", ""),
  "brackets": ("<eos>", " "),
  "thoughts": ("<|im_end|>", ""),
}


def form_of(name):
  return make_form(chat_models.tokenizer(name), DATA)


def form_with(template, tokenizer=None):
  return make_chat_form(tokenizer or chat_models.tokenizer("chatml"), template, template)


def read(form, messages):
  """The query's ids as text, special tokens by their names."""
  (ids,) = form.query_ids([render_query(messages)])
  return form.tokenizer.decode(ids, skip_special_tokens=False)


def own_ids(tokenizer, messages, **options):
  """What the tokenizer itself makes of the messages."""
  turns = [{"role": message.role, "content": message.content} for message in messages]
  return tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False, **options)


@pytest.mark.parametrize("name", ["chatml", "headers", "turns", "brackets"])
def test_ids_are_the_tokenizers_own(name):
  dialogues = [TURNS[:1], TURNS] if name == "turns" else [TURNS[:1], TURNS, [SYSTEM, *TURNS]]
  expected = [
    own_ids(chat_models.tokenizer(name), messages, add_generation_prompt=True)
    for messages in dialogues
  ]
  assert form_of(name).query_ids([render_query(messages) for messages in dialogues]) == expected


@pytest.mark.parametrize("name", ["chatml", "headers", "turns", "brackets"])
def test_query_response_and_end_are_the_tokenizers_own_ids_of_the_whole(name):
  form, tokenizer = form_of(name), chat_models.tokenizer(name)
  whole = own_ids(tokenizer, [*TURNS, Message("assistant", "Ben, I think.")])
  (query,) = form.query_ids([render_query(TURNS)])
  (response,) = form.response_ids([" Ben, I think."])
  joined = [*query, *response, form.eos]
  assert whole[: len(joined)] == joined
  assert tokenizer.decode(whole[len(joined) :]) in ("", "\n")


@pytest.mark.parametrize("scheme", ["first", "always", "normalizer"])
@pytest.mark.parametrize("template", [chat_models.TURNS, chat_models.BRACKETS])
def test_first_words_are_tokenised_as_they_follow_the_opened_turn(scheme, template):
  tokenizer = chat_models.blank_tokenizer(scheme)
  form = make_chat_form(tokenizer, template, template)
  (query,) = form.query_ids([render_query(TURNS)])
  turns = [*TURNS, Message("assistant", "Ben, I think.")]
  whole = own_ids(tokenizer, turns, chat_template=template)
  for text in ("Ben, I think.", " Ben, I think."):
    (response,) = form.response_ids([text])
    joined = [*query, *response, form.eos]
    assert whole[: len(joined)] == joined
    assert tokenizer.decode(response).strip() == "Ben, I think."


def test_a_token_across_the_border_is_cut_there():
  """Where the opened turn and an answer would share a token, the answer is read alone."""
  template = (
    "{% for m in messages %}{{ m.role }}: {{ 'B' if m.role != 'user' else '' }}{{ m.content }}"
    "<|im_end|>{% endfor %}{% if add_generation_prompt %}assistant: B{% endif %}"
  )
  form = form_with(template)
  whole, alone = (form.tokenizer(text)["input_ids"] for text in ("B" + "en", "en"))
  assert form.lead == "assistant: B" and len(whole) < 1 + len(alone)
  assert form.response_ids(["en"]) == [alone]


@pytest.mark.parametrize("name", FAMILIES)
def test_empty_responses_have_no_ids(name):
  form = form_of(name)
  assert form.response_ids(["", "  ", "\n"]) == [[], [], []] and form.response_ids([]) == []


@pytest.mark.parametrize("name", FAMILIES)
def test_the_name_of_a_special_token_in_a_response_is_text(name):
  form = form_of(name)
  special = [*chat_models.TEMPLATES[name][1], "<bos>", "<eos>", "<pad>"]
  (ids,) = form.response_ids([f"Say {''.join(special)}!"])
  assert {form.tokenizer.convert_tokens_to_ids(token) for token in special}.isdisjoint(ids)
  assert form.tokenizer.decode(ids).strip() == f"Say {''.join(special)}!"


@pytest.mark.parametrize("name", FAMILIES)
def test_the_end_of_a_turn_and_what_opens_an_answer(name):
  form = form_of(name)
  assert isinstance(form, ChatForm)
  assert (form.tokenizer.convert_ids_to_tokens(form.eos), form.opening) == ENDS[name]


@pytest.mark.parametrize("name", FAMILIES)
def test_bos_comes_once_where_the_template_writes_it(name):
  form = form_of(name)
  bos = form.tokenizer.bos_token_id
  (ids,) = form.query_ids([render_query(TURNS)])
  if name in ("chatml", "thoughts"):
    assert form.bos is None and bos not in ids
  else:
    assert form.bos == bos == ids[0] and bos not in ids[1:]


def test_a_tokenizer_that_adds_bos_by_itself_adds_none_to_the_templates():
  tokenizer = copy.deepcopy(chat_models.tokenizer("headers"))
  tokenizer.add_bos_token = True
  assert tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
  (ids,) = make_form(tokenizer, DATA).query_ids([render_query(TURNS)])
  assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id


@pytest.mark.parametrize("name", FAMILIES)
def test_queries_are_written_one_by_one_as_together(name):
  form = form_of(name)
  texts = [render_query(TURNS[:1]), render_query(TURNS), render_query([SYSTEM, *TURNS])]
  assert form.query_ids(texts) == [form.query_ids([text])[0] for text in texts]
  assert form.query_ids([]) == []


def test_a_refused_system_turn_opens_the_first_question():
  form = form_of("turns")
  assert form.folds_system
  assert read(form, [SYSTEM, *TURNS]).startswith("<bos><turn>user\nBe brief.\n\nWho has the ball?")
  assert not any(form_of(name).folds_system for name in FAMILIES if name != "turns")


def test_a_system_turn_that_would_be_dropped_opens_the_first_question():
  template = chat_models.TURNS.replace("{{ raise_exception('no system turns') }}", "")
  template = template.replace("in messages %}", "in messages if message.role != 'system' %}")
  form = form_with(template, chat_models.tokenizer("turns"))
  assert form.folds_system
  assert "Be brief.\n\nWho has the ball?" in read(form, [SYSTEM, *TURNS])


def test_fold_system():
  question, answer, _ = TURNS
  assert fold_system([]) == []
  assert fold_system(TURNS) == TURNS
  folded = Message("user", "Be brief.\n\nWho has the ball?")
  assert fold_system([SYSTEM, question, answer]) == [folded, answer]
  assert fold_system([SYSTEM, answer]) == [Message("user", "Be brief."), answer]
  assert fold_system([SYSTEM]) == [Message("user", "Be brief.")]


def test_alternating():
  question, answer, other = TURNS
  both = Message("user", "Who has the ball?\n\nAnd the box?")
  assert alternating(TURNS) == TURNS
  assert alternating([SYSTEM, answer, question, other]) == [SYSTEM, both]
  assert alternating([answer, question, answer, answer, other]) == [
    question,
    Message("assistant", "\n\n".join([answer.content] * 2)),
    other,
  ]


@pytest.mark.parametrize("name", ["turns", "brackets"])
def test_a_dialogue_whose_roles_do_not_take_turns_is_brought_to_do_so(name):
  question, answer, other = TURNS
  form = form_of(name)
  assert read(form, [answer, question, other]) == read(
    form, [Message("user", "Who has the ball?\n\nAnd the box?")]
  )
  # A template that takes such a dialogue gets it as it is.
  unchanged = own_ids(
    chat_models.tokenizer("headers"), [answer, question, other], add_generation_prompt=True
  )
  assert form_of("headers").query_ids([render_query([answer, question, other])]) == [unchanged]


def test_a_refused_query_is_named():
  template = "{% if messages[0].content == 'No.' %}{{ raise_exception('never') }}{% endif %}"
  form = form_with(template + chat_models.CHATML)
  with pytest.raises(ConfigError, match=r"refuses the query 'Human: No\. Assistant:' \(never\)"):
    form.query_ids([render_query([Message("user", "No.")])])


@pytest.mark.parametrize("name", FAMILIES)
def test_the_name_of_a_special_token_in_a_message_is_text(name):
  form = form_of(name)
  special = [*chat_models.TEMPLATES[name][1], "<bos>", "<eos>", "<pad>"]
  content = f"Say {special[0]} and {''.join(special)} twice."
  queries = [render_query([Message("user", said)]) for said in ("Say it.", content)]
  plain, named = form.query_ids(queries)
  known = {form.tokenizer.convert_tokens_to_ids(token) for token in special}
  assert [token for token in named if token in known] == [
    token for token in plain if token in known
  ]
  assert content in form.tokenizer.decode(named)
  assert max(named) < len(chat_models.tokenizer(name))


def test_overlapping_names_are_text_too():
  tokenizer = copy.deepcopy(chat_models.tokenizer("chatml"))
  tokenizer.add_tokens(["xyz", "yz<eos>"], special_tokens=True)
  form = form_with(chat_models.CHATML, tokenizer)
  (ids,) = form.query_ids([render_query([Message("user", "Say xyz<eos>.")])])
  (plain,) = form.query_ids([render_query([Message("user", "Say it.")])])
  added = {tokenizer.convert_tokens_to_ids(name) for name in ("xyz", "yz<eos>", "<eos>")}
  assert added.isdisjoint(ids) and added.isdisjoint(plain)
  assert "Say xyz<eos>." in tokenizer.decode(ids)


def test_the_mark_itself_is_text():
  form = form_of("chatml")
  assert "a \ue000\ue001 b" in read(form, [Message("user", "a \ue000\ue001 b")])


def test_thoughts_are_switched_off():
  assert read(form_of("thoughts"), TURNS[:1]).endswith("assistant\n<think>\n\n</think>\n\n")


def test_a_template_writes_the_same_date_every_day():
  assert read(form_of("thoughts"), TURNS).startswith(
    "<|im_start|>system\nToday is 26 July 2024.<|im_end|>\n<|im_start|>user\nWho"
  )
  template = "\n{{ strftime_now('%Y-%m-%d %b %-d') }}\n" + chat_models.CHATML
  assert read(form_with(template), TURNS).startswith("\n2024-07-26 Jul 26\n<|im_start|>system")


def test_without_a_special_token_behind_an_answer_eos_ends_it():
  template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
  form = form_with(template)
  assert form.eos == form.tokenizer.eos_token_id
  assert form.opening == " "
  tokenizer = copy.deepcopy(form.tokenizer)
  tokenizer.eos_token = None
  with pytest.raises(ConfigError, match="writes no special token behind a response"):
    form_with(template, tokenizer)


@pytest.mark.parametrize(
  ("template", "complaint"),
  [
    ("{% for", "refuses a dialogue of two turns"),
    ("{{ raise_exception('not today') }}", r"refuses a dialogue of two turns \(not today\)"),
    ("{{ messages[7].content }}", "refuses a dialogue of two turns"),
    ("{{ messages[-1].content }}", "leaves out or changes the text"),
    (chat_models.CHATML.replace(".content", ".content|lower"), "leaves out or changes the text"),
    ("{% for m in messages|reverse %}{{ m.content }}{% endfor %}", "leaves out or changes"),
  ],
)
def test_a_template_that_cannot_be_used_is_refused(template, complaint):
  with pytest.raises(ConfigError, match=rf"config\.data\.chat_template is .* {complaint}"):
    form_with(template)


def test_where_a_template_comes_from(tmp_path):
  plain, chat = tiny.codec().tokenizer, chat_models.tokenizer("turns")
  path = tmp_path / "mine.jinja"
  path.write_text(chat_models.CHATML, encoding="utf-8")
  assert find_template(plain, "") is None
  assert find_template(chat, "") == chat_models.TURNS
  assert find_template(chat, "hh") is None
  assert find_template(chat, str(path)) == chat_models.CHATML
  assert find_template(plain, chat_models.HEADERS) == chat_models.HEADERS
  assert isinstance(make_form(plain, DATA), HhForm)
  assert isinstance(make_form(chat, dataclasses.replace(DATA, chat_template="hh")), HhForm)


def test_one_of_several_templates(tmp_path):
  tokenizer = copy.deepcopy(chat_models.tokenizer("chatml"))
  tokenizer.chat_template = {"default": chat_models.CHATML, "tool_use": "{{ 1 }}"}
  assert find_template(tokenizer, "") == chat_models.CHATML
  tokenizer.chat_template = {"tool_use": "{{ 1 }}", "rag": "{{ 2 }}"}
  with pytest.raises(ConfigError, match=r"config\.data\.chat_template is '', which gives no"):
    find_template(tokenizer, "")


@pytest.mark.parametrize("name", ["missing.jinja", "latin.jinja", "."])
def test_a_template_that_is_no_file_is_named(tmp_path, name):
  (tmp_path / "latin.jinja").write_bytes(b"\xff{{ messages }}")
  with pytest.raises(ConfigError) as error:
    find_template(tiny.codec().tokenizer, str(tmp_path / name))
  assert str(error.value).startswith(f"config.data.chat_template is {str(tmp_path / name)!r}")


def test_a_separator_beside_a_template_is_refused():
  data = dataclasses.replace(DATA, separator="#")
  assert make_form(tiny.codec().tokenizer, data).separator is not None
  with pytest.raises(ConfigError, match=r"config\.data\.separator is '#'; it must be ''"):
    make_form(chat_models.tokenizer("chatml"), data)


def test_making_a_form_leaves_the_tokenizer_as_it_was():
  tokenizer = chat_models.tokenizer("chatml")
  before = tokenizer.get_vocab()
  make_form(tokenizer, DATA)
  assert tokenizer.get_vocab() == before


def test_smollm2_reads_dialogues_as_transformers_writes_them():
  directory = os.environ.get("APO_JAX_SMOLLM2", "")
  if not (Path(directory) / "tokenizer.json").is_file():
    pytest.skip("APO_JAX_SMOLLM2 names no prepared model directory")
  tokenizer = load_tokenizer(directory, "APO_JAX_SMOLLM2")
  form = make_form(tokenizer, DATA)
  assert form.eos == tokenizer.pad_token_id == tokenizer.eos_token_id == 2
  assert (form.bos, form.opening, form.folds_system) == (1, "", False)
  shout = Message("user", "É vero?\n\n  Sì: 12,5 °C 👩‍👩‍👧 <b>\t…")
  for messages in (TURNS[:1], TURNS, [SYSTEM, *TURNS], [*TURNS[:2], shout]):
    text = render_query(messages)
    assert list(parse_query(text)) == messages
    expected = own_ids(tokenizer, messages, add_generation_prompt=True)
    assert form.query_ids([text]) == [expected]
    whole = own_ids(tokenizer, [*messages, Message("assistant", "Yes, it is.")])
    (answer,) = form.response_ids([" Yes, it is."])
    assert whole[: len(expected) + len(answer) + 1] == [*expected, *answer, form.eos]
