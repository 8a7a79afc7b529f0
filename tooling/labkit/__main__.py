"""`python -m labkit`: whether this machine is ready for the labs. The student's half of the doctor."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from labkit import hardware

_MARKS = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the checks; 1 if one of them is an error, else 0."""
    parser = argparse.ArgumentParser(prog="python -m labkit", description="Is this machine ready for the labs?")
    parser.add_argument("--json", action="store_true", help="print the checks as JSON")
    options = parser.parse_args(arguments)
    checks = hardware.checks()
    failed = any(check.status == "error" for check in checks)
    if options.json:
        print(json.dumps({"ready": not failed, "checks": [asdict(check) for check in checks]}, indent=2))
        return int(failed)
    print(f"{hardware.greeting()}\n")
    width = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{_MARKS[check.status]}  {check.name:<{width}}  {check.detail}")
        if check.todo:
            print(f"{'':{len(_MARKS['ok']) + width + 4}}-> {check.todo}")
    print("\nNot ready: mend the errors above, then run this again." if failed else "\nReady.")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
