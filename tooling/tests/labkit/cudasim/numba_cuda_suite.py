"""Run numba-cuda's own tests, those that its simulator can run, through this engine; print what does not pass.

python numba_cuda_suite.py            one line for each test that failed, then the counts
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import types
import unittest
import warnings
from pathlib import Path


def main() -> None:
    # Only the tests of generated machine code use filecheck; the simulator skips them.
    for name, attrs in {
        "filecheck": (),
        "filecheck.matcher": ("Matcher",),
        "filecheck.options": ("Options",),
        "filecheck.parser": ("Parser", "pattern_for_opts"),
        "filecheck.finput": ("FInput",),
    }.items():
        module = types.ModuleType(name)
        for a in attrs:
            setattr(module, a, None)
        sys.modules.setdefault(name, module)
    from labkit import cudasim

    cudasim.enable(races="off")
    warnings.simplefilter("ignore")
    import numba.cuda.tests

    root = Path(numba.cuda.tests.__file__).parent
    suite, loader = unittest.TestSuite(), unittest.TestLoader()
    for folder in ("cudapy", "cudasim", "doc_examples", "cudadrv"):
        for file in sorted((root / folder).glob("test_*.py")):
            try:
                module = importlib.import_module(f"numba.cuda.tests.{folder}.{file.stem}")
            except (unittest.SkipTest, ImportError):
                continue
            except BaseException as e:
                if type(e).__name__ == "Skipped":  # pytest's, at module level
                    continue
                raise
            suite.addTests(loader.loadTestsFromModule(module))
    out = os.dup(1)
    result = unittest.TextTestRunner(stream=io.StringIO(), verbosity=0).run(suite)
    with os.fdopen(out, "w") as f:
        for test, trace in result.failures + result.errors:
            f.write(f"NOT {test.id().removeprefix('numba.cuda.tests.')} | {trace.strip().splitlines()[-1][:160]}\n")
        f.write(f"RAN {result.testsRun - len(result.skipped)} of {result.testsRun}\n")


if __name__ == "__main__":
    main()
