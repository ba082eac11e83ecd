"""Folders, globs and compressed files, and what is no data at all."""

import bz2
import gzip
import json
import lzma

import datasets
import fsspec
import pyarrow
import pyarrow.parquet
import pytest

from apo_jax.data.locations import LocationError, read_rows

ROWS = [{"query": f"é{i}\u2028?", "scores": [1.0, 0.5]} for i in range(4)]
MORE = [{"query": f"more {i}", "scores": [0.0]} for i in range(3)]


def lines(rows):
  return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()


def parquet(rows):
  sink = pyarrow.BufferOutputStream()
  pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
  return sink.getvalue().to_pybytes()


def write(folder, files):
  for name, data in files.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def failure(location):
  with pytest.raises(LocationError) as error:
    list(read_rows(str(location)))
  return str(error.value)


@pytest.mark.parametrize(
  ("name", "data"),
  [
    ("a.jsonl.xz", lzma.compress(lines(ROWS[:1])) + lzma.compress(lines(ROWS[1:]))),
    ("a.jsonl.bz2", bz2.compress(lines(ROWS[:1])) + bz2.compress(lines(ROWS[1:]))),
    ("a.ndjson", lines(ROWS)),
    ("compressed_whatever_its_name.jsonl", gzip.compress(lines(ROWS), mtime=0)),
    ("what? [a name]*.jsonl", lines(ROWS)),
    ("ends_so?split=test.jsonl", lines(ROWS)),
  ],
)
def test_a_file_is_read(tmp_path, name, data):
  write(tmp_path, {name: data})
  assert list(read_rows(f"{tmp_path}/{name}")) == ROWS
  assert list(read_rows(f"file://{tmp_path}/{name}")) == ROWS


def test_a_home_directory_is_found(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  write(tmp_path, {"a.jsonl": lines(ROWS)})
  assert list(read_rows("~/a.jsonl")) == list(read_rows("~/*.jsonl")) == ROWS


@pytest.mark.parametrize("end", [9, 5])
def test_a_truncated_compressed_file_is_an_error(tmp_path, end):
  write(tmp_path, {"a.jsonl.xz": lzma.compress(lines(ROWS))[:-end]})
  write(tmp_path, {"a.jsonl.bz2": bz2.compress(lines(ROWS))[:-end]})
  for name in ("a.jsonl.xz", "a.jsonl.bz2"):
    assert "end-of-stream" in failure(tmp_path / name)


@pytest.mark.parametrize(
  ("data", "words"),
  [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "`git lfs pull`"),
    (b"\n<!DOCTYPE html>\n<html>", "it is a web page"),
  ],
)
def test_what_is_no_data_is_named(tmp_path, data, words):
  for name in ("a.jsonl", "a.json", "a.csv", "a.parquet", "a.arrow"):
    write(tmp_path, {name: data})
    assert words in failure(tmp_path / name)
  write(tmp_path, {"a.parquet": b""})
  assert "it is empty, of 0 bytes" in failure(tmp_path / "a.parquet")


@pytest.mark.parametrize(
  ("data", "words"),
  [
    (lines(ROWS).decode().encode("utf-16"), "iconv -f UTF-16 -t UTF-8"),
    (parquet(ROWS), "it is a parquet or Arrow file"),
    (b"PK\x03\x04", "it is a zip archive"),
  ],
)
def test_what_is_no_text_is_named(tmp_path, data, words):
  write(tmp_path, {"a.jsonl": data})
  assert words in failure(tmp_path / "a.jsonl")


SHARDS = {"part-00001-of-00002": MORE, "part-00000-of-00002": ROWS}


@pytest.mark.parametrize(
  ("suffix", "written"),
  [(".jsonl.gz", lambda rows: gzip.compress(lines(rows))), (".parquet", parquet)],
)
def test_folders_and_globs_are_read_in_the_order_of_names(tmp_path, suffix, written):
  files = {f"set/{name}{suffix}": written(rows) for name, rows in SHARDS.items()}
  write(tmp_path, files | {"set/README.md": b"# Set", "set/.hidden/a.jsonl": b"{}"})
  write(tmp_path, {"set/_SUCCESS": b"", "set/dataset_infos.json": b"{}"})
  memory = fsspec.filesystem("memory")
  for name, data in files.items():
    memory.pipe_file(f"/apo_jax_folders{suffix}/{name}", data)
  for place in (tmp_path, f"memory://apo_jax_folders{suffix}"):
    for location in ("set", "set/", f"set/*{suffix}", f"set/part-0000?-of-*{suffix}", "*/part-*"):
      assert list(read_rows(f"{place}/{location}")) == ROWS + MORE


def test_a_folder_named_like_a_file_is_a_folder(tmp_path):
  write(tmp_path, {"rows.parquet/part-1.parquet": parquet(ROWS), "rows.parquet/_SUCCESS": b""})
  assert list(read_rows(str(tmp_path / "rows.parquet"))) == ROWS


@pytest.mark.parametrize(
  ("train", "test"),
  [
    ("train.jsonl", "test.jsonl"),
    ("train/a.jsonl", "test/a.jsonl"),
    ("data/train-00000-of-00001.jsonl", "data/test-00000-of-00001.jsonl"),
    ("helpful_train.jsonl", "helpful_test.jsonl"),
  ],
)
def test_a_folder_of_splits_is_read_as_train_or_as_chosen(tmp_path, train, test):
  write(tmp_path, {train: lines(ROWS), test: lines(MORE)})
  assert list(read_rows(str(tmp_path))) == ROWS
  assert list(read_rows(f"{tmp_path}?split=test")) == MORE
  assert list(read_rows(f"{tmp_path}?split=test+train")) == MORE + ROWS
  assert list(read_rows(f"file://{tmp_path}?split=test%2Btrain")) == MORE + ROWS
  assert "its files are of test, train" in failure(f"{tmp_path}?split=dev")
  assert "hf://FOLDER?split=… reads a part" in failure(f"{tmp_path}?split=train[:1]")


def test_a_folder_of_one_split_needs_no_choice(tmp_path):
  write(tmp_path, {"test-00000-of-00001.jsonl": lines(MORE)})
  assert list(read_rows(str(tmp_path))) == MORE


@pytest.mark.parametrize(
  ("files", "words"),
  [
    ({}, "it is a folder without data"),
    ({"README.md": b""}, "holds README.md"),
    ({"a.jsonl": lines(ROWS), "b.parquet": b"PAR1"}, "several kinds, as a.jsonl and b.parquet"),
    ({"a.jsonl": lines(ROWS), "a.jsonl.gz": b""}, "a.jsonl.gz, which would be read twice"),
    ({"train.jsonl": lines(ROWS), "other.jsonl": b""}, "(train), but other.jsonl for none"),
    ({f"{name}-00000-of-00001.jsonl": b"{}" for name in ("train_a", "b")}, "but b-00000-of-0"),
    ({"a.jsonl": lines(ROWS), "b.jsonl": b""}, "b.jsonl: it is empty"),
    ({"a.csv": b"q,r\n1,2\n", "b.csv": b"q,s\n1,2\n"}, "a.csv has q, r; b.csv has q, s"),
    ({"a.jsonl": lines(ROWS), "b.jsonl.gz": b"no gzip"}, "b.jsonl.gz: Not a gzipped file"),
  ],
)  # fmt: skip
def test_a_folder_that_is_not_one_set_of_rows_is_refused(tmp_path, files, words):
  write(tmp_path, files)
  assert words in failure(tmp_path)


@pytest.mark.parametrize(
  ("pattern", "words"),
  [
    ("x*.jsonl", "no file matches it; "),
    ("nowhere/*.jsonl", "there is no folder"),
    ("*", "it matches notes.txt too"),
    ("fold*", "it matches folders alone"),
    ("*.jsonl?split=test", "a glob names files itself"),
    ("a.jsonl?split=test", "a file has none; leave ?split= out"),
  ],
)
def test_a_glob_that_matches_no_rows_is_refused(tmp_path, pattern, words):
  write(tmp_path, {"a.jsonl": lines(ROWS), "notes.txt": b"", "folder/a.jsonl": lines(ROWS)})
  assert words in failure(f"{tmp_path}/{pattern}")


def test_a_row_of_several_files_is_placed_in_its_own(tmp_path):
  write(tmp_path, {"a.jsonl": lines(ROWS), "b.jsonl": lines(MORE)})
  rows = read_rows(str(tmp_path))
  assert len(list(rows)) == 7
  assert [rows.place(number) for number in (1, 4, 5, 7)] == [
    "row 1 of a.jsonl",
    "row 4 of a.jsonl",
    "row 1 of b.jsonl",
    "row 3 of b.jsonl",
  ]
  rows = read_rows(str(tmp_path / "a.jsonl"))
  assert len(list(rows)) == 4 and rows.place(3) == "row 3"


def test_a_saved_data_set_is_read(tmp_path):
  one = datasets.Dataset.from_list(ROWS)
  # A format that was set is for the one who set it.
  both = datasets.DatasetDict(
    train=one.with_format("numpy", columns=["scores"]), test=datasets.Dataset.from_list(MORE)
  )
  one.save_to_disk(tmp_path / "one")
  both.save_to_disk(tmp_path / "both")
  for scheme in ("", "hf://", "file://"):
    assert list(read_rows(f"{scheme}{tmp_path}/one")) == ROWS
    assert list(read_rows(f"{scheme}{tmp_path}/one?split=train[1:3]")) == ROWS[1:3]
    assert list(read_rows(f"{scheme}{tmp_path}/both")) == ROWS
    assert list(read_rows(f"{scheme}{tmp_path}/both?split=test")) == MORE
    assert list(read_rows(f"{scheme}{tmp_path}/both?split=test[:1]+train")) == MORE[:1] + ROWS
    assert "Should be one of ['train', 'test']" in failure(f"{scheme}{tmp_path}/both?split=dev")
  assert list(read_rows(f"{tmp_path}/one/*.arrow")) == ROWS
