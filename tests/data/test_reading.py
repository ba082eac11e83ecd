import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.data.reading import to_records

HH = {"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant: B"}
K_WISE = {"query": "Q", "responses": ["a", "b"], "scores": [1, 0]}


def read(rows, kind="preferences", on_bad_row="error", numbers=None):
  return to_records(rows, "the rows are 'here'", kind, on_bad_row, {}, numbers)


def test_bad_rows_are_counted_and_the_first_three_of_each_reason_shown():
  blank = {**K_WISE, "responses": ["a", ""]}
  equal = {**K_WISE, "scores": [0, 0]}
  reading = read([blank, K_WISE, *[blank] * 4, equal, K_WISE], on_bad_row="skip")
  assert (reading.rows, len(reading.records)) == (8, 2)
  assert reading.dropped == {"empty response": 5, "all sides equal": 1}
  assert reading.examples == {
    "empty response": tuple(
      f"row {number}: it has 2 responses, of which 1 say nothing" for number in (1, 3, 4)
    ),
    "all sides equal": ("row 7: it has the same score on every side",),
  }
  assert reading.numbers == (2, 8)


def failure(rows, kind="preferences", on_bad_row="skip"):
  with pytest.raises(ConfigError) as error:
    read(rows, kind, on_bad_row)
  return str(error.value)


def test_the_first_bad_row_is_fatal_where_the_config_says_so():
  message = failure([K_WISE, {**K_WISE, "responses": ["a", ""]}, {}], on_bad_row="error")
  assert message == (
    "the rows are 'here', whose row 2 cannot be used (empty response): it has 2 responses, of which"
    ' 1 say nothing. The row is {"query": "Q", "responses": ["a", ""], "scores": [1, 0]}.'
  )


@pytest.mark.parametrize("on_bad_row", ["skip", "error"])
def test_rows_of_which_none_can_be_used_are_an_error(on_bad_row):
  message = failure([{**K_WISE, "scores": [1, 1]}] * 3, on_bad_row=on_bad_row)
  assert "all sides equal" in message
  if on_bad_row == "skip":
    assert message.endswith(
      "of whose 3 rows none can be used; all sides equal in row 1: "
      "it has the same score on every side."
    )
  assert failure([], on_bad_row=on_bad_row).endswith("which holds no record; give at least one.")


def test_a_column_names_the_subset_of_a_preference():
  others = [HH, {**K_WISE, "source": "a b"}, {**K_WISE, "source": 7}]
  rows = [{**HH, "source": "helpful-base"}, *others]
  subject = "the rows are 'here'"
  reading = to_records(rows, subject, "preferences", "skip", {}, subset_column="source")
  assert [one.subset for one in reading.records] == ["helpful-base"]
  assert reading.dropped == {"wrong field": 3} and "source" in reading.read
  assert "its 'source', which config.data.subset_column names, is None" in str(reading.examples)
  assert [one.subset for one in read(rows).records] == [""] * 4
  with pytest.raises(ConfigError, match=r"of whose 2 rows none .* 'sourc', which config.data"):
    to_records([rows[0]] * 2, subject, "preferences", "skip", {}, subset_column="sourc")


def test_an_unknown_format_names_the_columns():
  message = failure([{"a": 1, "b": None}, {"c": 2}])
  assert "whose columns (a, c) are of no known format" in message and "HH-RLHF" in message


def test_a_format_that_holds_too_little_is_named():
  message = failure([{"instruction": "Q", "output": "A"}])
  assert "whose rows are in AlpacaEval outputs form; each must hold two or more" in message
  assert "query and response" not in message
  message = failure([{"query": "Q", "sample_0": "A"}], "demonstrations")
  assert "whose rows are in APO samples form; each must hold a response" in message


def test_the_first_row_need_not_be_a_good_one():
  assert read([{"chosen": "A", "rejected": "B"}, HH, HH], on_bad_row="skip").format == "HH-RLHF"
  assert read([{"query": "Q"}, K_WISE], on_bad_row="skip").dropped == {"missing field": 1}


def test_rows_have_the_numbers_that_are_given():
  reading = read(
    [K_WISE, {**K_WISE, "scores": [1, 1]}, K_WISE], on_bad_row="skip", numbers=(2, 5, 9)
  )
  assert reading.numbers == (2, 9) and reading.rows == 3
  assert reading.examples["all sides equal"][0].startswith("row 5: ")
