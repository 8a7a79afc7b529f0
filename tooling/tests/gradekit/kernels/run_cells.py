"""Run cells in one sandboxed kernel and say what came out. Imported by tests; also a program, so that it can be started
as another user or in something like a container: the request comes as JSON in argv[1], the answer goes to stdout.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradekit.kernels import Death, ForkServer, KernelRequest, Limits, SandboxedNotebookClient
from nbclient.exceptions import DeadKernelError
from nbformat.v4 import new_code_cell, new_notebook


@dataclass
class Ran:
    """Each cell's text (streams, results and errors joined), why the kernel died, seconds per cell."""

    texts: list[str]
    death: Death | None
    seconds: dict[int, float] = field(default_factory=dict)
    timed_out: list[int] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)


def run_cells(server: ForkServer, *sources: str, timeout: int = 60, files: Path | None = None, **limits: Any) -> Ran:
    request = KernelRequest(files=files, limits=Limits(**limits))
    with server.kernel(request) as manager:
        return run_in(manager, *sources, timeout=timeout)


def run_in(manager: Any, *sources: str, timeout: int = 60) -> Ran:
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
    client = SandboxedNotebookClient(notebook, km=manager, timeout=timeout)
    death = None
    try:
        client.execute()
    except DeadKernelError:
        death = client.death
    outputs = [list(cell.outputs) for cell in notebook.cells]
    texts = ["".join(_text(o) for o in each) for each in outputs]
    return Ran(texts, death, client.seconds, sorted(client.timed_out), outputs)


def _text(output: Any) -> str:
    if output["output_type"] == "error":
        return f"{output['ename']}: {output['evalue']}"
    return output.get("text") or output.get("data", {}).get("text/plain", "")


def main() -> None:
    asked = json.loads(sys.argv[1])
    without = frozenset(asked.get("without", ()))
    with ForkServer(levels=tuple(asked["levels"]), without=without) as server:
        ran = run_cells(server, *asked["sources"], **asked.get("limits", {}))
        death = {"limit": ran.death.limit, "reason": ran.death.reason} if ran.death else None
        print(json.dumps({"level": server.report.level, "texts": ran.texts, "death": death}))


if __name__ == "__main__":
    main()
