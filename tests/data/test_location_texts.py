"""JSON in other forms than lines, and tables of text."""

import json

import pyarrow
import pyarrow.feather
import pytest

from apo_jax.data.bad_rows import BadRow
from apo_jax.data.locations import LocationError, read_rows

ROWS = [{"query": f"é{i}\u2028?", "scores": [1.0, 0.5]} for i in range(3)]
LINES = "".join(f"{json.dumps(row)}\n" for row in ROWS)
VIEWED = [{"row_idx": i, "row": row, "truncated_cells": []} for i, row in enumerate(ROWS)]


def read(folder, name, text):
  (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
  return list(read_rows(str(folder / name)))


def failure(folder, name, text):
  with pytest.raises(LocationError) as error:
    read(folder, name, text)
  return str(error.value)


@pytest.mark.parametrize(
  "text",
  [
    json.dumps(ROWS),
    json.dumps(ROWS, indent=2),
    "\n".join(json.dumps(row, indent=1) for row in ROWS),
    "".join(map(json.dumps, ROWS)),
    json.dumps({"data": ROWS}),
    json.dumps({"version": "1.0", "data": ROWS}, indent=1),
    json.dumps({"train": ROWS}),
    json.dumps({"train": ROWS, "test": ROWS[:1]}),
    json.dumps({"features": [{"name": "query"}], "rows": VIEWED, "num_rows_total": 3}),
    f"\ufeff\n{LINES}",
  ],
)
def test_rows_are_found_in_every_form_of_json(tmp_path, text):
  for name in ("a.json", "a.jsonl"):
    assert read(tmp_path, name, text) == ROWS


def test_a_list_of_a_json_file_is_chosen_by_its_split(tmp_path):
  (tmp_path / "a.json").write_text(json.dumps({"train": ROWS, "test": ROWS[:1]}))
  assert list(read_rows(f"{tmp_path}/a.json?split=test")) == ROWS[:1]
  with pytest.raises(LocationError, match="its lists of rows are train, test; choose"):
    list(read_rows(f"{tmp_path}/a.json?split=dev"))


def test_an_object_that_is_one_row_is_a_row(tmp_path):
  turns = [{"role": "user", "content": "a"}]
  for row in ({"messages": turns, "label": True}, {"chosen": turns, "rejected": turns}):
    assert read(tmp_path, "a.json", json.dumps(row, indent=1)) == [row]


def test_a_cell_that_the_viewer_cut_makes_a_bad_row(tmp_path):
  rows = [VIEWED[0], {**VIEWED[1], "truncated_cells": ["query"]}]
  good, bad = read(tmp_path, "a.json", json.dumps({"features": [], "rows": rows}))
  assert good == ROWS[0] and isinstance(bad, BadRow) and "cut its query" in str(bad)


@pytest.mark.parametrize(
  ("value", "words"),
  [
    ({"query": {"0": "a", "1": "b"}, "response": {"0": "c", "1": "d"}}, "orient='records'"),
    ({"query": ["a", "b"], "response": ["c", "d"]}, "one object of columns"),
    ({"0": {"query": "a"}, "1": {"query": "b"}}, "jq -c '.[]' FILE"),
    ({"data": ROWS, "other": ROWS}, "choose one by ?split=NAME"),
  ],
)
def test_an_object_of_another_form_is_refused_with_what_converts_it(tmp_path, value, words):
  assert words in failure(tmp_path, "a.json", json.dumps(value))


def test_a_bad_first_line_costs_no_other(tmp_path):
  bad, *rows = read(tmp_path, "a.jsonl", f'{{"query": \n{LINES}')
  assert isinstance(bad, BadRow) and rows == ROWS


@pytest.mark.parametrize(
  "text", ['[\n{"a": 1},\n{"a": 2}\n', '{\n"a": 1,\n"b": \n}', "rows\nof words"]
)
def test_broken_json_is_an_error_not_rows(tmp_path, text):
  for name in ("a.json", "a.jsonl"):
    assert "it is not valid JSON" in failure(tmp_path, name, text)


@pytest.mark.parametrize(
  ("name", "text"),
  [
    ("a.csv", 'query,scores\n"a, ""b""\nc",1\n\nFalse,\n'),
    ("a.csv", '\ufeffquery;scores\r\n"a, ""b""\nc";1\r\nFalse;\r\n'),
    ("a.tsv", 'query\tscores\n"a, ""b""\nc"\t1\nFalse\t\n'),
  ],
)
def test_tables_of_text_are_read_as_text(tmp_path, name, text):
  assert read(tmp_path, name, text) == [
    {"query": 'a, "b"\nc', "scores": "1"},
    {"query": "False", "scores": ""},
  ]


def test_a_row_of_a_table_that_lacks_a_value_is_bad(tmp_path):
  first, second, third = read(tmp_path, "a.csv", ",query\n0,a\n1\n2,b,c\n")
  assert first == {"Unnamed: 0": "0", "query": "a"}
  assert "it has 1 values; it must have 2" in str(second)
  assert "it has 3 values; it must have 2" in str(third)


@pytest.mark.parametrize(
  ("text", "words"),
  [
    ('query,scores\n"a,1\nb,2\n', "its line 3 is not valid"),
    ('query,scores\n"a \\"b\\", c",1\n', "its line 2 is not valid"),
    ("query,query\na,b\n", "two columns named query"),
  ],
)
def test_a_table_whose_rows_are_not_certain_is_an_error(tmp_path, text, words):
  assert words in failure(tmp_path, "a.csv", text)


def test_a_long_cell_is_read_whole(tmp_path):
  text = "long " * 40_000
  assert read(tmp_path, "a.csv", f"query\n{text}\n") == [{"query": text}]


def test_arrow_files_are_read(tmp_path):
  table = pyarrow.Table.from_pylist(ROWS)
  pyarrow.feather.write_feather(table, tmp_path / "a.feather", compression="uncompressed")
  sink = pyarrow.BufferOutputStream()
  with pyarrow.ipc.new_stream(sink, table.schema) as stream:
    stream.write_table(table)
  (tmp_path / "a.arrow").write_bytes(sink.getvalue().to_pybytes())
  for name in ("a.feather", "a.arrow"):
    assert list(read_rows(str(tmp_path / name))) == ROWS
