"""Templates that would take all time and memory end in a sentence, and others are as before."""

import os
import threading

import jinja2
import pytest

from apo_jax.data import template_renderer
from apo_jax.data.chat_form import make_chat_form
from apo_jax.data.dialogue import Message
from apo_jax.data.rendering import render
from apo_jax.data.template_renderer import TemplateLimit, render_apart
from tests.data import chat_models
from tests.data.chat_families import FAMILIES

SAID = [{"role": "user", "content": "hi \ud800 'x'"}, {"role": "assistant", "content": "Ho"}]
_RANGE = "{% for i in range(100000) %}"


@pytest.mark.parametrize(
  ("template", "message"),
  [
    (f"{_RANGE * 3}{'{% endfor %}' * 3}", "takes more than 0.2 s"),
    ("{{ 'a' * 10**10 }}", "GiB of memory"),
    ("{{ 'a'|center(10**11) }}", "GiB of memory"),
    ("{{ 'ab' * 10**6 }}", "makes 2,000,000 characters of one dialogue, more than"),
    ("a" * 2_000_000, "has 2,000,000 characters, more than 1,000,000"),
  ],
)
def test_what_has_no_end_is_ended(monkeypatch, template, message):
  monkeypatch.setattr(template_renderer, "SECONDS", 0.2)
  with pytest.raises(TemplateLimit, match=rf"config\.data\.chat_template.*{message}.*or 'hh'"):
    render_apart(template, [SAID], {})
  assert render_apart("{{ messages[0].content }}", [SAID], {}) == [SAID[0]["content"]]


@pytest.mark.slow
def test_a_run_refuses_such_a_template(monkeypatch):
  monkeypatch.setattr(template_renderer, "SECONDS", 0.2)
  template = f"{chat_models.TEMPLATES['chatml']}{_RANGE * 3}{'{% endfor %}' * 3}"
  with pytest.raises(TemplateLimit, match=r"takes more than 0\.2 s"):
    make_chat_form(chat_models.tokenizer("chatml"), template, "")


@pytest.mark.parametrize(
  "template",
  [
    "{{ ''.__class__.__mro__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{{ 1 / 0 }}",
    "{% for",
    "{{ raise_exception('no') }}",
  ],
)
def test_what_fails_is_a_refusal(template):
  (found,) = render_apart(template, [SAID], {})
  assert isinstance(found, jinja2.TemplateError) and str(found)


@pytest.mark.parametrize("name", FAMILIES)
def test_texts_are_those_of_transformers(name):
  tokenizer, template = chat_models.tokenizer("chatml"), FAMILIES[name].template
  messages = [Message("user", "Who?"), Message("assistant", "Ann  \n <b>"), Message("user", "é?")]
  given = [{"role": one.role, "content": one.content} for one in messages]
  options = {"add_generation_prompt": True, "enable_thinking": False, "thinking": False}
  if "strftime_now" not in template:  # whose date stands still here
    theirs = tokenizer.apply_chat_template(given, chat_template=template, tokenize=False, **options)
    assert render(tokenizer, template, messages, opens_answer=True) == theirs


def test_answers_keep_the_order_of_many_dialogues_and_threads():
  dialogues = [[{"role": "user", "content": f"{number}"}] for number in range(200)]
  found = {}

  def ask(name):
    found[name] = render_apart(f"{name} {{{{ messages[0].content }}}}", dialogues, {})

  threads = [threading.Thread(target=ask, args=(name,)) for name in "abc"]
  for one in threads:
    one.start()
  for one in threads:
    one.join()
  assert found == {name: [f"{name} {number}" for number in range(200)] for name in "abc"}


def test_an_interrupted_question_leaves_no_answer_behind(monkeypatch):
  render_apart("first", [SAID], {})
  renderer = template_renderer._renderer(os.getpid())

  class Cut:
    def readline(self):
      raise KeyboardInterrupt

  monkeypatch.setattr(renderer._process, "stdout", Cut())
  renderer._process.stdout.close = lambda: None
  with pytest.raises(KeyboardInterrupt):
    render_apart("second", [SAID], {})
  assert render_apart("third", [SAID], {}) == ["third"]
