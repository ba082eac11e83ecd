"""A contestant for the tests, without a library."""

from benchmarks.protocol import Server


def main() -> None:
  server = Server()

  def noise() -> str:
    print("what a library prints")
    return "quiet"

  def fail() -> None:
    raise RuntimeError("out of luck")

  server.handlers = {"job": lambda: server.job, "noise": noise, "fail": fail}
  server.answer({"built": server.job["size"]})
  steps = 0
  while True:  # as a training loop would
    server.serve(until="run")
    steps += 1
    server.answer({"seconds": 0.0, "steps": steps})


if __name__ == "__main__":
  main()
