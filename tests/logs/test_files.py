import json

import numpy as np
import pytest

from apo_jax.logs import files


def test_json_round_trip(tmp_path):
  value = {"a": [1, 2.5, None, True], "b": {"text": "Größe \u2028 <b>"}}
  files.write_json(tmp_path / "deep" / "value.json", value)
  assert files.read_json(tmp_path / "deep" / "value.json") == value


def test_jsonl_round_trip_keeps_texts_that_look_like_line_ends(tmp_path):
  rows = [{"text": "a\nb\r\u2028\u0085c"}, {"text": ""}]
  files.write_jsonl(tmp_path / "rows.jsonl", rows)
  assert files.read_jsonl(tmp_path / "rows.jsonl") == rows
  assert (tmp_path / "rows.jsonl").read_bytes().count(b"\n") == 2


def test_floats_that_are_not_finite_become_null(tmp_path):
  row = {"nan": float("nan"), "nested": [float("inf"), {"x": -float("inf")}], "fine": 1.0}
  files.write_jsonl(tmp_path / "rows.jsonl", [row])
  files.write_json(tmp_path / "row.json", row)
  expected = {"nan": None, "nested": [None, {"x": None}], "fine": 1.0}
  assert files.read_jsonl(tmp_path / "rows.jsonl") == [expected]
  assert files.read_json(tmp_path / "row.json") == expected


def test_arrays_become_numbers_and_lists(tmp_path):
  value = {"scalar": np.float32(0.5), "list": np.array([1.0, np.nan]), "count": np.int64(3)}
  files.write_json(tmp_path / "value.json", value)
  assert files.read_json(tmp_path / "value.json") == {
    "scalar": 0.5,
    "list": [1.0, None],
    "count": 3,
  }


def test_a_lone_surrogate_survives(tmp_path):
  files.write_jsonl(tmp_path / "rows.jsonl", [{"text": "\ud83d"}])
  assert files.read_jsonl(tmp_path / "rows.jsonl") == [{"text": "\ud83d"}]


def test_an_exception_while_writing_leaves_the_old_file(tmp_path):
  path = tmp_path / "rows.jsonl"
  files.write_jsonl(path, [{"row": "old"}])

  def rows():
    yield {"row": "new"}
    raise RuntimeError("killed")

  with pytest.raises(RuntimeError, match="killed"):
    files.write_jsonl(path, rows())
  with pytest.raises(TypeError):
    files.write_json(path, {"row": object()})
  assert files.read_jsonl(path) == [{"row": "old"}]
  assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
  path = tmp_path / "rows.jsonl"
  files.write_jsonl(path, [{"row": "old"}])

  def rows():
    yield {"row": "new"}
    assert files.read_jsonl(path) == [{"row": "old"}]

  files.write_jsonl(path, rows())
  assert files.read_jsonl(path) == [{"row": "new"}]


def test_errors_name_the_file_and_the_line(tmp_path):
  path = tmp_path / "bad.jsonl"
  path.write_text('{"a": 1}\n\n{"a": \n')
  with pytest.raises(ValueError, match=r"bad\.jsonl, line 3, is not valid JSON"):
    files.read_jsonl(path)
  path.write_text('{"a": 1}\n[1]\n')
  with pytest.raises(ValueError, match=r"bad\.jsonl, line 2, must be a JSON object"):
    files.read_jsonl(path)
  path.write_bytes(b'{"a": 1}\n{"a": "\xff"}\n')
  with pytest.raises(ValueError, match=r"bad\.jsonl, line 2, is not UTF-8"):
    files.read_jsonl(path)
  path.write_text('{\n"a": }')
  with pytest.raises(ValueError, match=r"bad\.jsonl, line 2, is not valid JSON"):
    files.read_json(path)


def test_a_torn_end_is_left_out_only_when_asked(tmp_path):
  path = tmp_path / "rows.jsonl"
  path.write_text('{"a": 1}\n{"a": 2')
  assert files.read_jsonl(path, ignore_torn_end=True) == [{"a": 1}]
  with pytest.raises(ValueError, match="line 2"):
    files.read_jsonl(path)


def test_json_line_is_one_line():
  line = files.json_line({"text": "a\nb", "x": float("nan")})
  assert "\n" not in line
  assert json.loads(line) == {"text": "a\nb", "x": None}
