"""A class that takes the course: ``gradekit demo``, and what ``make`` runs."""
