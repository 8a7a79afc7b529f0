"""What a lab notebook imports. Knows nothing of grading."""
