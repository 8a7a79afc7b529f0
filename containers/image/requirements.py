"""Print what pyproject.toml requires, with the named extras, and not the project itself: a layer that rarely changes.

python requirements.py pyproject.toml [EXTRA ...]
"""

import sys
import tomllib
from pathlib import Path


def requirements(project: dict, extras: list[str]) -> list[str]:
    """The project's dependencies and those of its extras."""
    return sum((project["optional-dependencies"][extra] for extra in extras), project["dependencies"])


if __name__ == "__main__":
    table = tomllib.loads(Path(sys.argv[1]).read_text())
    print("\n".join(requirements(table["project"], sys.argv[2:])))
