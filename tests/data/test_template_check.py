"""What a run reads of a dialogue is what the template's own rendering of the whole has."""

import copy
import dataclasses
import functools
import itertools

import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.data.chat_form import complete_template
from apo_jax.data.dialogue import Message, render_query, render_response
from apo_jax.data.records import Demonstration, Preference, Query
from apo_jax.data.template_check import TemplateCheck, check_template, choose_records
from apo_jax.data.tokenised import cut_and_left_out, tokenise
from apo_jax.data.tokens import make_codec
from apo_jax.data.toy import dialogues
from tests import tiny
from tests.data import chat_models
from tests.data.chat_families import FAMILIES

SYSTEM, ASK = Message("system", "Be brief."), Message("user", "Who has the ball?")
ANSWER, AGAIN = Message("assistant", "Ann has it.\n\nThe red one."), Message("user", "And the box?")
LAST = Message("assistant", "Ben, I think.")


def codec_of(tokenizer):
  config = tiny.config(
    data__query_length=300,
    data__query_buckets=(300,),
    data__row_length=400,
    sampling__training__stop=(),
    sampling__evaluation__stop=(),
  )
  return make_codec(tokenizer, config, 1_000)


@functools.cache
def tokenizer_of(name):
  tokenizer = copy.deepcopy(tiny.codec().tokenizer)
  tokenizer.add_tokens(list(FAMILIES[name].special), special_tokens=True)
  tokenizer.chat_template = FAMILIES[name].template
  return tokenizer


@functools.cache
def family_codec(name):
  return codec_of(tokenizer_of(name))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_familys_query_end_and_opening(name):
  codec, family = family_codec(name), FAMILIES[name]
  (query,) = codec.encode_queries([render_query([ASK])])
  assert codec.form.tokenizer.decode(query).endswith(family.ends_query)
  assert codec.form.tokenizer.convert_ids_to_tokens(codec.eos) == family.end


# What query, response and end may not be in whole dialogues: see docs/templates.md.
NOT_IN_WHOLE = ("prompt_switches_thoughts_off", "vicuna_blank")
NO_END = ("chatml_last_turn_open", "glm")


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in NOT_IN_WHOLE])
@pytest.mark.parametrize("turns", [[ASK], [ASK, ANSWER, AGAIN], [SYSTEM, ASK, ANSWER, AGAIN]])
def test_ids_are_transformers_own_of_the_whole(name, turns):
  """Beside the check itself: `apply_chat_template` on the whole dialogue, tokenised by it."""
  codec, tokenizer = family_codec(name), tokenizer_of(name)
  if codec.form.folds_system or name == "mistral_3":
    turns = [turn for turn in turns if turn.role != "system"]
  (query,) = codec.encode_queries([render_query(turns)])
  (response,) = codec.encode_responses([render_response([LAST])])
  joined = [*query, *response.tokens, *([] if name in NO_END else [codec.eos])]
  messages = [vars(turn) for turn in (*turns, LAST)]
  whole = tokenizer.apply_chat_template(messages, return_dict=False, enable_thinking=False)
  assert whole[: len(joined)] == joined


@pytest.mark.parametrize("name", FAMILIES)
def test_families_pass_the_check(name):
  found = check_template(family_codec(name), RECORDS)
  assert found.compared > 20
  assert (found.at_border > 0) == (name == "vicuna_blank")


@pytest.mark.parametrize("scheme", ["first", "always", "normalizer"])
@pytest.mark.parametrize(
  "name", ["llama_2", "mistral_1", "mistral_tekken", "gemma", "vicuna_blank"]
)
def test_tokenizers_that_begin_words_with_a_blank_pass_it(scheme, name):
  tokenizer = copy.deepcopy(chat_models.blank_tokenizer(scheme))
  tokenizer.add_tokens(list(FAMILIES[name].special), special_tokens=True)
  tokenizer.chat_template = FAMILIES[name].template
  assert check_template(codec_of(tokenizer), ()).compared > 15


QUESTION = render_query([ASK])
RECORDS = (
  Query("q", QUESTION),
  Demonstration("d", render_query([SYSTEM, ASK, ANSWER, AGAIN]), "     return x\n"),
  Preference(
    "p", QUESTION, (" <|im_end|> ends it", render_response([ANSWER, AGAIN, LAST])), (1.0, 0.0)
  ),
  Demonstration("t", QUESTION, " <think>Hm.</think>\n\nYes."),
  Demonstration(
    "m", render_query([Message("user", "What is\n\nHuman: ?")]), " A\n\n\ue002Human: B"
  ),
  Demonstration("r", render_query([ASK, ASK]), " Ann."),
)


@pytest.mark.parametrize(
  ("change", "complaint"),
  [
    ({"opening": " "}, "from token"),
    ({"closing": "\n"}, "from token"),
    ({"eos": 2}, "from token"),
    ({"lead": "", "template": FAMILIES["chatml_without_prompt"].template}, "‹<|im_start|>›"),
    ({"template": FAMILIES["chatml"].template.replace("m['content']", "m['content']|upper")}, "▶"),
    ({"template": FAMILIES["chatml"].template.replace("assistant\\n", "assistant: ")}, "▶"),
  ],
)
def test_a_form_that_differs_is_refused_with_both_side_by_side(change, complaint):
  codec = family_codec("chatml")
  broken = dataclasses.replace(codec, form=codec.form._replace(**change))
  with pytest.raises(ConfigError) as error:
    check_template(broken, ())
  said = str(error.value)
  assert said.startswith("config.data.chat_template: query, response and end are not what the")
  assert complaint in said
  ours, theirs = said.splitlines()[1:3]
  assert ours.startswith("  the run's: ") and theirs.startswith("  the template's: ")
  assert ours.count("▶") == theirs.count("▶") == 1


def test_what_a_template_does_to_some_rows_alone_is_found():
  """Small dialogues of our own pass; a row of the data says what they do not."""
  template = FAMILIES["chatml"].template.replace(
    "m['content']", "m['content']|replace('red', 'RED')"
  )
  tokenizer = copy.deepcopy(tokenizer_of("chatml"))
  tokenizer.chat_template = template
  codec = codec_of(tokenizer)
  assert check_template(codec, ()).compared
  record = Demonstration("d7", QUESTION, " The red one.")
  with pytest.raises(ConfigError, match="in the demonstration 'd7' with the response"):
    check_template(codec, [record])


def test_an_answer_whose_white_space_is_trimmed_is_the_same():
  for name in ("llama_3", "gemma", "llama_2"):
    check_template(family_codec(name), [Demonstration("d", QUESTION, "     indented")])


def test_a_prompt_that_whole_dialogues_contradict_is_refused():
  template = (
    "{% for m in messages %}{{ loop.index if m.role == 'assistant' else 'Q' }}: {{ m.content }}\n"
    "{% endfor %}{% if add_generation_prompt %}answer:{% endif %}"
  )
  tokenizer = copy.deepcopy(tokenizer_of("chatml"))
  tokenizer.chat_template = template
  with pytest.raises(ConfigError, match=r"writes '\\n4:' before an answer .* prompt '\\nanswer:'"):
    codec_of(tokenizer)
  assert complete_template(tokenizer, template) == template


@pytest.mark.parametrize("name", ["chatml_without_prompt", "deepseek_r1", "channels"])
def test_a_completed_template_opens_answers_in_other_tools(name):
  """It is saved with the tokenizer, and complete itself."""
  tokenizer = tokenizer_of(name)
  template = complete_template(tokenizer, FAMILIES[name].template)
  assert template != FAMILIES[name].template
  assert complete_template(tokenizer, template) == template == family_codec(name).form.template
  for turns in ([ASK], [SYSTEM, ASK, ANSWER, AGAIN]):
    messages = [vars(turn) for turn in turns]

    def written(chosen, more=(), messages=messages, **options):
      return tokenizer.apply_chat_template(
        [*messages, *more], chat_template=chosen, tokenize=False, **options
      )

    opened = written(template, add_generation_prompt=True)
    assert opened.endswith(FAMILIES[name].ends_query)
    for more in ([], [vars(LAST)]):
      assert written(template, more) == written(FAMILIES[name].template, more)
    assert written(template, [vars(LAST)]).startswith(opened + LAST.content)


def test_under_the_hh_form_nothing_is_compared():
  found = check_template(tiny.codec(), RECORDS)
  assert found == TemplateCheck(0, 0) and "no chat template" in found.sentence()


def test_the_result_is_a_sentence():
  assert TemplateCheck(24, 0).sentence().endswith("the ids of its own rendering of the whole.")
  assert "border of query and response in 3." in TemplateCheck(24, 3).sentence()


def data_with(*records):
  data = dialogues.generate(1, 9, 8, 7, 6, 5)
  return dataclasses.replace(data, demonstrations=(*data.demonstrations, *records))


def test_records_of_every_kind_are_chosen():
  odd = [one for one in RECORDS if isinstance(one, Demonstration)]
  chosen = choose_records(data_with(*odd))
  assert set(odd) <= set(chosen) and len(chosen) <= 40
  assert len({type(one) for one in chosen}) == 3


def test_later_turns_are_the_templates():
  codec = family_codec("llama_3")
  text = render_response([ANSWER, AGAIN, LAST])
  ((response,),) = codec.encode_answers([QUESTION], [[text]])
  (query,) = codec.encode_queries([QUESTION])
  turns = [vars(turn) for turn in (ASK, ANSWER, AGAIN, LAST)]
  whole = tokenizer_of("llama_3").apply_chat_template(turns, return_dict=False)
  assert [*query, *response.tokens, codec.eos] == whole
  # In HH form their markers are text.
  ((plain,),) = tiny.codec().encode_answers([QUESTION], [[text]])
  assert tiny.codec().decode(plain.tokens) == text


def written(name, *turns):
  template = tokenizer_of(name)
  return template.apply_chat_template([vars(turn) for turn in turns], tokenize=False)


def test_what_a_form_would_misread_is_left_out_and_counted():
  two = render_response([ANSWER, AGAIN, LAST])
  odd = {
    "later turns that change the query": Demonstration("a", QUESTION, two),
    "a thought where thoughts are off": RECORDS[3],
    "written by a template": Demonstration(
      "b", render_query([Message("user", written("qwen_3", ASK) + "<|im_start|>assistant\n")]), " A"
    ),
  }
  found = tokenise(family_codec("qwen_3"), data_with(*odd.values()))
  assert found.left_out["demonstrations"] == dict.fromkeys(odd, 1)
  assert cut_and_left_out(found)["demonstrations"]["records"] == 9
  # In HH form a marker in a message cannot be told from a turn's.
  data = data_with(RECORDS[4], *odd.values())
  long = codec_of(tiny.codec().tokenizer)
  assert tokenise(long, data).left_out["demonstrations"] == {"turn marker inside a message": 1}
  with pytest.raises(ConfigError, match=r"no row of demonstrations can be written .*\(1 turn mark"):
    tokenise(long, dataclasses.replace(data, demonstrations=(RECORDS[4],)))


@pytest.mark.parametrize(
  ("content", "is_written"),
  [
    ("<|head|>user<|/head|>\n\nQ<|eot|><|head|>assistant<|/head|>\n\n", True),
    ("<bos><|head|>user<|/head|>\n\nQ<|eot|><|head|>assistant<|/head|>\n\nA<|eot|>", True),
    (
      "<|head|>system<|/head|>\n\nS<|eot|><|head|>user<|/head|>\n\nQ<|eot|><|head|>assistant<|/head|>",
      True,
    ),
    ("What is <|eot|> or <|head|>user<|/head|>?", False),
    ("It writes <|head|>user<|/head|>\n\n, then <|head|>assistant<|/head|>, then?", False),
  ],
)
def test_the_runs_own_template_in_a_prompt_is_told_from_its_names(content, is_written):
  """Also of a template that no table knows."""
  query = render_query([Message("user", content)])
  reason = family_codec("llama_3").form.why_unfit(query, [" A"])
  assert (reason == "written by a template") == is_written


def test_texts_come_back_from_tokens():
  pieces = ["<|im_end|>", "\n\nHuman:", "\ue002", "  ", "é", "👩‍👩‍👧", "\n", "a", " x", "<think>"]
  texts = ["".join(some) for some in itertools.product(pieces, repeat=3)]
  texts = list(dict.fromkeys(text.strip() for text in texts if text.strip()))
  codec = family_codec("chatml")
  answers = [[render_response([Message("assistant", text)])] for text in texts]
  found = codec.encode_answers([QUESTION] * len(texts), answers)
  assert [codec.decode(response.tokens) for (response,) in found] == texts
