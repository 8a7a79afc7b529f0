"""What this machine's sandbox is made of, for ``gradekit doctor`` and for every outcome."""

from __future__ import annotations

from dataclasses import dataclass


class SandboxError(RuntimeError):
    """Student code was not run, because the sandbox could not be had or could not be entered."""


@dataclass(frozen=True)
class Layer:
    """One layer: whether it is there, and if not why, and what to do."""

    name: str
    ok: bool
    why: str = ""


@dataclass(frozen=True)
class SandboxReport:
    """``level``: "namespaces", "container", "none" or "refused"; ``failures``: why better ones failed."""

    level: str
    layers: tuple[Layer, ...] = ()
    failures: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"sandbox level: {self.level}"]
        lines += [f"  {'yes' if x.ok else 'NO '}  {x.name}{': ' + x.why if x.why else ''}" for x in self.layers]
        lines += [f"  not possible here: {f}" for f in self.failures]
        return "\n".join(lines)

    @classmethod
    def from_json(cls, data: dict) -> SandboxReport:
        return cls(data["level"], tuple(Layer(**x) for x in data["layers"]), tuple(data["failures"]))


def probe() -> SandboxReport:
    """Try the real steps in throw-away processes and say what this machine gives. Raises nothing for a poor machine."""
    from gradekit.kernels.forkserver import ask_for_report

    return ask_for_report()
