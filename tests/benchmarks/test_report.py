"""Tables, and what a race comes to."""

from benchmarks import race, report
from benchmarks.work import Machine, Work

WORK = Work(flops=20e9, bytes=1e9)


def result():
  def runs(first, seconds):
    timed = [{"seconds": one, "loss": 0.5} for one in seconds]
    return race.Runs({"versions": {}}, [{"seconds": first}, {"seconds": 1.5}], timed)

  both = {"ours": runs(9.0, [2.0, 1.0, 4.0]), "a peer": runs(3.0, [5.0, 6.0, 5.0])}

  def reached(*flops):
    return [{"flops": one, "bandwidth": 30e9 - one} for one in flops]

  limits = {"ours": reached(10e9, 90e9, 20e9), "a peer": reached(15e9, 15e9, 25e9)}
  return race.Result(both, limits, ["Another is left out."])


def test_columns_are_as_wide_as_they_must_be():
  text = report.table(["", "seconds"], [["ours", "1.0"], ["a peer", "100.25"]])
  assert text.splitlines() == ["        seconds", "ours        1.0", "a peer   100.25"]


def test_a_comparison_is_by_medians():
  lines = report.comparison(result(), {"ours": WORK, "a peer": WORK}, tokens=10).splitlines()
  # First run, median, least, most, tokens/s, GFLOP/s, of the limit of 1 s, to the first.
  assert " ".join(lines[1].split()) == "ours 9.00 2.000 1.000 4.000 5.0 10.0 50% 1.00x"
  assert " ".join(lines[2].split()) == "a peer 3.00 5.000 5.000 6.000 2.0 4.0 20% 2.50x"
  assert lines[-1] == "Another is left out."


def test_losses_are_those_of_the_first_timed_run():
  text = report.comparison(result(), {"ours": WORK, "a peer": WORK}, loss=True)
  assert text.splitlines()[1].endswith("0.50000")


def test_a_race_as_json():
  content = report.as_json(result(), {"ours": WORK, "a peer": WORK})
  ours = content["contestants"]["ours"]
  assert (ours["median_seconds"], ours["limit_seconds"]) == (2.0, 1.0)
  assert [run["seconds"] for run in ours["timed"]] == [2.0, 1.0, 4.0]


def test_the_machine_s_limit_is_the_best_library_s_median():
  assert result().machine == Machine(flops=20e9, bandwidth=15e9)
  assert "20.0 (10.0 to 90.0) GFLOP/s" in report.limits_line(result())
