# loses: test-kto-feedback
# Overlapping thresholds are let through.

# %% kto-feedback
def to_feedback(log: Sequence[Mapping], up: int = 4, down: int = 2) -> list[dict]:
    feedback = []
    for entry in log:
        rating = entry["rating"]
        if rating is None:
            continue
        if not 1 <= rating <= 5:
            raise ValueError(f"a rating must be from 1 to 5, not {rating}")
        if down < rating < up or not entry["answer"].strip():
            continue
        feedback.append({"prompt": entry["prompt"], "completion": entry["answer"], "label": rating >= up})
    return feedback
