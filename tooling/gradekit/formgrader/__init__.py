"""nbgrader's formgrader for the staff of a large course: see ``beside`` and ``quick``."""
