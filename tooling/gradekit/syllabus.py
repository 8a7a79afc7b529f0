"""The syllabus: which modules and labs the course has, what each lab is for, and which of them are written.

``syllabus.yaml`` is written by people, so everything that is wrong with it is collected and reported at once,
each fault with its line, the entry it belongs to and what to do about it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from gradekit.course import CourseError

#: The revised taxonomy of Anderson and Krathwohl (2001), from the lowest level to the highest.
BLOOM = ("remember", "understand", "apply", "analyze", "evaluate", "create")
#: The hardware that a lab's graded work asks for; what each means stands at the head of syllabus.yaml.
TIERS = ("cpu", "gpu-optional", "gpu-required")

_SYLLABUS_KEYS = ("domains", "modules")
_MODULE_KEYS = ("id", "title", "slug", "domain", "hours", "objectives", "labs")
_OBJECTIVE_KEYS = ("id", "bloom", "text")
_LAB_KEYS = ("id", "title", "slug", "objectives", "hours", "tier", "builds_on")


class SyllabusError(CourseError):
    """The syllabus cannot be used. ``problems`` holds one line per fault, in the order of the file."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Objective:
    """What a student can do after the module; ``bloom`` is one of `BLOOM`."""

    id: str
    bloom: str
    text: str


@dataclass(frozen=True)
class SyllabusLab:
    """One lab as the syllabus plans it, written or not.

    ``module`` is the id of the module it belongs to, ``slug`` the stem of its notebook, ``objectives`` the ids of
    its module's objectives that it serves, ``hours`` a student's time, ``tier`` one of `TIERS` and ``builds_on`` the
    id of an earlier lab, or None for one that starts from nothing.
    """

    id: str
    module: str
    title: str
    slug: str
    objectives: tuple[str, ...]
    hours: float
    tier: str
    builds_on: str | None


@dataclass(frozen=True)
class Module:
    """One module: ``slug`` is its folder in source/ and its assignment's name, ``hours`` (least, most)."""

    id: str
    title: str
    slug: str
    domain: str
    hours: tuple[float, float]
    objectives: tuple[Objective, ...]
    labs: tuple[SyllabusLab, ...]


@dataclass(frozen=True)
class Syllabus:
    """All modules in the order in which they are taught; ``domains`` maps a domain's id to its title."""

    domains: dict[str, str]
    modules: tuple[Module, ...]

    @cached_property
    def labs(self) -> tuple[SyllabusLab, ...]:
        """Every lab of every module, in order."""
        return tuple(lab for module in self.modules for lab in module.labs)

    def module(self, id: str) -> Module:
        """The module with this id; a CourseError lists those that there are."""
        for module in self.modules:
            if module.id == id:
                return module
        raise CourseError(f"No module {id} in the syllabus. There are: {_words([m.id for m in self.modules])}.")

    def lab(self, id: str) -> SyllabusLab:
        """The lab with this id; a CourseError lists the labs of the module that the id seems to mean."""
        for lab in self.labs:
            if lab.id == id:
                return lab
        near = [lab.id for lab in self.labs if lab.module == id.rpartition(".")[0]]
        hint = f"That module has {_words(near)}" if near else "`gradekit status` lists all labs"
        raise CourseError(f"No lab {id} in the syllabus. {hint}.")


@dataclass(frozen=True)
class StatusRow:
    """One line of `gradekit status`; ``module`` and ``lab`` are ids, ``status`` is "planned" or "written"."""

    module: str
    lab: str
    title: str
    status: str
    hours: float
    tier: str
    builds_on: str | None


def status_rows(syllabus: Syllabus, course_dir: Path) -> list[StatusRow]:
    """Every lab with its status: written when source/<module slug>/<lab slug>.ipynb is there, else planned."""
    return [
        StatusRow(
            module=module.id,
            lab=lab.id,
            title=lab.title,
            status="written" if (course_dir / "source" / module.slug / f"{lab.slug}.ipynb").is_file() else "planned",
            hours=lab.hours,
            tier=lab.tier,
            builds_on=lab.builds_on,
        )
        for module in syllabus.modules
        for lab in module.labs
    ]


def load(path: Path) -> Syllabus:
    """Read and check a syllabus.

    Raises:
        SyllabusError: the file is missing, is not YAML, or breaks a rule; it lists every fault that was found.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SyllabusError([f"{path}: cannot be read ({error}): give the path of a syllabus.yaml"]) from error
    try:
        document = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SyllabusError([f"{path}{line}: not valid YAML: {error.problem}: mend this line first"]) from error
    except yaml.YAMLError as error:
        raise SyllabusError([f"{path}: not valid YAML: {error}"]) from error
    return _Reader(path).read(document)


class _Mapping(dict[Any, Any]):
    """A YAML mapping that knows the line on which it begins."""

    line: int


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with line numbers, and with an error where a key is given twice."""


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> Iterator[_Mapping]:
    mapping = _Mapping()
    mapping.line = node.start_mark.line + 1
    yield mapping
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int):
            raise _fault(f"a key must be a word or a number, not {key!r}", key_node)
        if key in mapping:
            raise _fault(f"the key {key!r} is given twice", key_node)
        mapping[key] = loader.construct_object(value_node, deep=True)


def _fault(text: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(problem=text, problem_mark=node.start_mark)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)


class _Reader:
    """One pass over a parsed syllabus that gathers problems instead of stopping at the first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[tuple[int, str]] = []
        self.labs: dict[str, int] = {}  # id -> line, of every lab so far: what builds_on may name
        self.later: dict[str, int] = {}  # the same for every lab of the file
        self.seen: dict[tuple[str, str], int] = {}  # (kind, value) -> line, for what must be unique

    def read(self, document: Any) -> Syllabus:
        if not isinstance(document, _Mapping):
            raise SyllabusError([f"{self.path}: has no top-level keys: it needs {_words(_SYLLABUS_KEYS)}"])
        self.keys(document, "the syllabus", _SYLLABUS_KEYS)
        domains = document.get("domains")
        if not isinstance(domains, dict):
            self.problem(document, "the syllabus", "'domains' must map each domain's id to its title")
            domains = {}
        domains = {str(id): str(title) for id, title in domains.items()}
        entries = self.entries(document, "modules", "the syllabus")
        for module in entries:
            labs = module.get("labs")
            for lab in labs if isinstance(labs, list) else []:
                if isinstance(lab, _Mapping):
                    self.later.setdefault(str(lab.get("id")), lab.line)
        modules = tuple(self.module(entry, domains) for entry in entries)
        if self.problems:
            raise SyllabusError([f"{self.path}:{line}: {text}" for line, text in sorted(self.problems)])
        return Syllabus(domains, modules)

    def module(self, entry: _Mapping, domains: Collection[str]) -> Module:
        id = self.id(entry, "module")
        who = f"module {id}"
        self.keys(entry, who, _MODULE_KEYS)
        domain = str(entry.get("domain"))
        if "domain" in entry and domain not in domains:
            self.problem(entry, who, f"unknown domain {domain!r}: use {_words(domains)}, or add it to 'domains'")
        objectives = tuple(self.objective(o) for o in self.entries(entry, "objectives", who))
        known = [objective.id for objective in objectives]
        return Module(
            id=id,
            title=self.text(entry, "title", who),
            slug=self.slug(entry, id, who),
            domain=domain,
            hours=self.hours_range(entry, who),
            objectives=objectives,
            labs=tuple(self.lab(lab, id, known) for lab in self.entries(entry, "labs", who)),
        )

    def objective(self, entry: _Mapping) -> Objective:
        id = self.id(entry, "objective")
        who = f"objective {id}"
        self.keys(entry, who, _OBJECTIVE_KEYS)
        return Objective(id, self.choice(entry, "bloom", BLOOM, who), self.text(entry, "text", who))

    def lab(self, entry: _Mapping, module: str, objectives: Collection[str]) -> SyllabusLab:
        id = self.id(entry, "lab")
        who = f"lab {id}"
        self.keys(entry, who, _LAB_KEYS)
        lab = SyllabusLab(
            id=id,
            module=module,
            title=self.text(entry, "title", who),
            slug=self.slug(entry, id, who),
            objectives=self.served(entry, module, objectives, who),
            hours=self.hours(entry, who),
            tier=self.choice(entry, "tier", TIERS, who),
            builds_on=self.builds_on(entry, id, who),
        )
        self.labs.setdefault(id, entry.line)
        return lab

    def problem(self, entry: _Mapping, who: str, text: str) -> None:
        self.problems.append((entry.line, f"{who}: {text}"))

    def keys(self, entry: _Mapping, who: str, expected: Collection[str]) -> None:
        for key in expected:
            if key not in entry:
                self.problem(entry, who, f"{key!r} is missing: add it")
        for key in entry:
            if key not in expected:
                self.problem(entry, who, f"unknown key {key!r}: the keys here are {_words(expected)}")

    def entries(self, entry: _Mapping, key: str, who: str) -> list[_Mapping]:
        value = entry.get(key)
        if isinstance(value, list) and value and all(isinstance(item, _Mapping) for item in value):
            return value
        if key in entry:
            self.problem(entry, who, f"{key!r} must be a list of entries, each with its keys")
        return []

    def id(self, entry: _Mapping, kind: str) -> str:
        """The entry's id, unique among its kind: a lab may share its number with an objective or its module."""
        id = self.quoted(entry, "id", entry.get("id", "without an id"), kind)
        if "id" in entry:
            self.unique(entry, f"{kind} {id}", f"{kind} id", id)
        return id

    def quoted(self, entry: _Mapping, key: str, value: Any, who: str) -> str:
        """An id, which has to be text: YAML reads a bare 1.10 as the number 1.1."""
        if not isinstance(value, str):
            self.problem(entry, who, f"{key!r} is {value!r}, not text: put the id in quotes")
        return str(value)

    def unique(self, entry: _Mapping, who: str, kind: str, value: str) -> None:
        if (kind, value) in self.seen:
            first = self.seen[kind, value]
            self.problem(entry, who, f"duplicate {kind} {value!r}, first on line {first}: rename one of the two")
        self.seen.setdefault((kind, value), entry.line)

    def text(self, entry: _Mapping, key: str, who: str) -> str:
        value = entry.get(key)
        if key in entry and not (isinstance(value, str) and value.strip()):
            self.problem(entry, who, f"{key!r} must be a text, not {value!r}: write it in quotes")
        return str(value)

    def slug(self, entry: _Mapping, id: str, who: str) -> str:
        """A name for files and nbgrader assignments: the id, a hyphen, then letters, digits, dots and hyphens."""
        value = self.text(entry, "slug", who)
        if "slug" in entry and "id" in entry:
            if not re.fullmatch(re.escape(id) + r"-[A-Za-z0-9][A-Za-z0-9.-]*", value):
                self.problem(entry, who, f"slug {value!r} must be '{id}-' and then letters, digits, dots or hyphens")
            self.unique(entry, who, f"{who.split()[0]} slug", value)
        return value

    def choice(self, entry: _Mapping, key: str, choices: Collection[str], who: str) -> str:
        value = entry.get(key)
        if key in entry and value not in choices:
            self.problem(entry, who, f"unknown {key} {value!r}: use {_words(choices)}")
        return str(value)

    def hours(self, entry: _Mapping, who: str) -> float:
        value: Any = entry.get("hours")
        if _is_hours(value):
            return float(value)
        if "hours" in entry:
            self.problem(entry, who, f"'hours' must be a number above 0, not {value!r}")
        return 0.0

    def hours_range(self, entry: _Mapping, who: str) -> tuple[float, float]:
        value = entry.get("hours")
        if isinstance(value, list) and len(value) == 2 and all(map(_is_hours, value)) and value[0] <= value[1]:
            return float(value[0]), float(value[1])
        if "hours" in entry:
            self.problem(entry, who, f"'hours' must be [least, most], two numbers above 0, not {value!r}")
        return 0.0, 0.0

    def served(self, entry: _Mapping, module: str, known: Collection[str], who: str) -> tuple[str, ...]:
        value = entry.get("objectives")
        if not (isinstance(value, list) and value):
            if "objectives" in entry:
                self.problem(entry, who, "'objectives' must list at least one objective that the lab serves")
            return ()
        for objective in value:
            if objective not in known:
                hint = f"module {module} has {_words(known)}" if known else f"module {module} has none: add them"
                self.problem(entry, who, f"unknown objective {objective!r}: {hint}")
        return tuple(map(str, value))

    def builds_on(self, entry: _Mapping, id: str, who: str) -> str | None:
        """An earlier lab's id: as a lab may only name earlier ones, no circle can close."""
        value = entry.get("builds_on")
        if value is None:
            return None
        value = self.quoted(entry, "builds_on", value, who)
        if value == id:
            self.problem(entry, who, "builds on itself: name an earlier lab, or null")
        elif value not in self.later:
            self.problem(entry, who, f"builds on {value!r}, which is no lab here: name an earlier lab, or null")
        elif value not in self.labs:
            line = self.later[value]
            self.problem(entry, who, f"builds on lab {value}, which comes later (line {line}): move one of the two")
        return value


def _is_hours(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def _words(names: Collection[str]) -> str:
    return ", ".join(names)
