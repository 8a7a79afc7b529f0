# Dataclasses, enumerations, named tuples, protocols, comparison of its own.

# %% first
import abc
import dataclasses
import enum
import functools
from typing import Generic, NamedTuple, Protocol, TypeVar

T = TypeVar("T")


class Point(NamedTuple):
    x: float
    y: float = 0.0


class Colour(enum.Enum):
    RED = enum.auto()
    BLUE = "b"


@dataclasses.dataclass(order=True, frozen=True, slots=True)
class Pair(Generic[T]):
    first: T
    second: T = dataclasses.field(default=None, compare=False)


@functools.total_ordering
class Version:
    def __init__(self, text):
        self.parts = tuple(map(int, text.split(".")))

    def __eq__(self, other):
        return isinstance(other, Version) and self.parts == other.parts

    def __lt__(self, other):
        return self.parts < other.parts

    def __hash__(self):
        return hash(self.parts)


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...


class HasArea(Protocol):
    def area(self) -> float: ...


class Registry(type):
    known = {}

    def __new__(mcs, name, bases, space):
        mcs.known[name] = super().__new__(mcs, name, bases, space)
        return mcs.known[name]


class Square(metaclass=Registry):
    def __getattr__(self, name):
        return f"no {name}"


print(Point(1), Colour.RED, Pair(1, 2) < Pair(2), Version("1.2") >= Version("1.1"), Square().colour, Registry.known)
