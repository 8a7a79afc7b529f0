"""What staff run: authoring, sandboxed grading and reports for any nbgrader course directory."""
