"""Warm kernels that lock themselves into a sandbox: fork server, sandbox, kernel provisioner.

The names below are what the rest of gradekit uses. They are loaded on first use, because the fork server's own
process imports this package too and must stay small until it has left the machine's file system behind.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradekit.kernels.client import SandboxedNotebookClient
    from gradekit.kernels.forkserver import ForkServer
    from gradekit.kernels.kernelspec import install
    from gradekit.kernels.limits import Death, KernelRequest, Limits
    from gradekit.kernels.report import SandboxError, SandboxReport, probe

_HOMES = {
    "Death": "limits",
    "ForkServer": "forkserver",
    "KernelRequest": "limits",
    "Limits": "limits",
    "SandboxError": "report",
    "SandboxReport": "report",
    "SandboxedNotebookClient": "client",
    "install": "kernelspec",
    "probe": "report",
}

__all__ = [
    "Death",
    "ForkServer",
    "KernelRequest",
    "Limits",
    "SandboxError",
    "SandboxReport",
    "SandboxedNotebookClient",
    "install",
    "probe",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"gradekit.kernels.{_HOMES[name]}"), name)
