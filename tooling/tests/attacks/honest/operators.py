# Classes with operators, slots, descriptors, and attribute access of their own.

# %% first
import operator


class Money:
    __slots__ = ("cents",)

    def __init__(self, cents):
        self.cents = cents

    def __add__(self, other):
        return Money(self.cents + getattr(other, "cents", other))

    __radd__ = __add__

    def __eq__(self, other):
        return getattr(other, "cents", other) == self.cents

    __hash__ = None

    def __float__(self):
        return self.cents / 100

    def __index__(self):
        return self.cents

    def __repr__(self):
        return f"Money({self.cents})"


class Positive:
    def __set_name__(self, owner, name):
        self.name = f"_{name}"

    def __get__(self, instance, owner):
        return self if instance is None else getattr(instance, self.name)

    def __set__(self, instance, value):
        if value <= 0:
            raise ValueError(value)
        setattr(instance, self.name, value)


class Box:
    width = Positive()

    def __init__(self, width):
        self.width = width

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value)


print(sum([Money(1), Money(2)]), Money(3) == 3, float(Money(50)), Box(2).width, operator.attrgetter("width")(Box(3)))
