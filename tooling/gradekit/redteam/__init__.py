"""The red team: a corpus of attacks on a small course, run against stock nbgrader and against gradekit."""
