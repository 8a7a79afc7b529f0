"""Skill checks before a module: ungraded, each says whether you are ready, and if not what to reread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

NOT_RUN = "not run"
NOT_ANSWERED = "not answered"
NOT_YET = "not yet"
READY = "ready"


class Readiness:
    """The skills that a module asks for, and how far each has got.

        ready = Readiness("1.3", {"broadcasting": "lab 1.2.1, Foundations"})
        with ready.skill("broadcasting"):
            assert column_means(table).shape == (3,), "which axis did you average over?"
        ready.report()

    Args:
        module: the module's id.
        reread: where each skill is taught, by the skill's name; the order is that of the report.
    """

    def __init__(self, module: str, reread: Mapping[str, str]) -> None:
        self.module = module
        self.reread = dict(reread)
        self._states = dict.fromkeys(self.reread, NOT_RUN)

    @property
    def states(self) -> Mapping[str, str]:
        """Each skill's state: "not run", "not answered", "not yet" or "ready"."""
        return MappingProxyType(self._states)

    @contextmanager
    def skill(self, name: str) -> Iterator[None]:
        """Check one skill: the block raises nothing if you have it. Says so in one line, and never stops the notebook.

        A NotImplementedError (the answer as it came) or a NameError (its cell has not been run) is no wrong answer.

        Raises:
            ValueError: the skill was not declared.
        """
        if name not in self._states:
            raise ValueError(f"{name!r} is not among the skills of this notebook: {', '.join(self._states)}")
        try:
            yield
        except (NotImplementedError, NameError) as error:
            self._states[name] = NOT_ANSWERED
            what = "write your answer in the cell above" if isinstance(error, NotImplementedError) else f"{error}"
            print(f"{NOT_ANSWERED}: {name}. {what}; run it, then run this cell again.")
        except Exception as error:
            self._states[name] = NOT_YET
            reason = f"{error}" if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
            print(f"{NOT_YET}: {name}. {reason}\nTo reread: {self.reread[name]}")
        else:
            self._states[name] = READY
            print(f"{READY}: {name}")

    def report(self) -> None:
        """Print every skill with its state, and what to reread before the module."""
        width = max(map(len, self._states), default=0)
        for name, state in self._states.items():
            advice = "" if state == READY else f"   reread: {self.reread[name]}"
            print(f"{name:{width}}   {state:{len(NOT_ANSWERED)}}{advice}".rstrip())
        there = sum(state == READY for state in self._states.values())
        of = len(self._states)
        print(f"\n{there} of {of} skills are there. " + (f"You are ready for module {self.module}." if there == of else
              "Reread what is named, then come back: an hour now saves an evening in the labs."))
