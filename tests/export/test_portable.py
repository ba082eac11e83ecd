"""Exported files that transformers 4.57 and 5 were seen to read with equal numbers.

tests/golden/make_portable.py made them; what is exported today must be the same files.
"""

import json

import pytest
import transformers

from apo_jax.export.tokenizer_files import save_tokenizer
from tests.golden import make_portable
from tests.golden.portable_ids import ids_of
from tests.models.hugging_face import cases

STORED = json.loads(make_portable.STORED.read_text())
CASES = sorted({name.rsplit("_", 1)[0] for name in STORED["models"]})


def test_both_versions_were_asked():
  majors = {version.split(".")[0] for version in STORED["versions"]}
  assert majors == {"4", "5"} and any(one.startswith("4.57") for one in STORED["versions"])


@pytest.mark.parametrize("case", CASES)
def test_config_json_is_the_one_that_was_read(tmp_path, case):
  name, spelling = case.rsplit("_", 1)
  cases.write(tmp_path, name)
  (tmp_path / "config.json").write_text(json.dumps(make_portable.spelled(name, spelling)))
  for player, config in make_portable.configs(cases.read(tmp_path)).items():
    assert config == STORED["models"][f"{case}_{player}"]


@pytest.mark.parametrize("name", sorted(STORED["tokenizers"]))
def test_tokenizers_are_the_ones_that_were_read(tmp_path, name):
  stored = STORED["tokenizers"][name]
  source = make_portable.TOKENIZERS / name
  save_tokenizer(transformers.AutoTokenizer.from_pretrained(source), tmp_path)
  assert json.loads((tmp_path / "tokenizer_config.json").read_text()) == stored["config"]
  assert ids_of(transformers.AutoTokenizer.from_pretrained(tmp_path)) == stored["ids"]
