"""What a config chooses by its name: a frozen dataclass whose fields are its hyper-parameters."""

from typing import Any, ClassVar, Self


class Choice:
  """The base of every kind of choice, such as `PolicyLoss`.

  A direct subclass is a kind. A subclass of a kind that has a `name` is one of its choices, which a
  config names in the kind's field and sets in a section of that name.

  Attributes:
    name: the choice's, in configs.
    known: all choices of a kind, by name.
  """

  name: ClassVar[str]
  known: ClassVar[dict[str, type[Self]]]

  def __init_subclass__(cls, **options: Any):
    super().__init_subclass__(**options)
    if Choice in cls.__bases__:
      cls.known = {}
    elif "name" in vars(cls):
      cls.known[cls.name] = cls
