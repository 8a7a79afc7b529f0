# loses: test-kto-feedback
# A rating of 0 is silently dropped, and the bug that made it lives on.

# %% kto-feedback
def to_feedback(log: Sequence[Mapping], up: int = 4, down: int = 2) -> list[dict]:
    if down >= up:
        raise ValueError(f"down ({down}) must be below up ({up})")
    feedback = []
    for entry in log:
        rating = entry["rating"]
        if rating is None:
            continue
        if not 1 <= rating <= 5:
            continue
        if down < rating < up or not entry["answer"].strip():
            continue
        feedback.append({"prompt": entry["prompt"], "completion": entry["answer"], "label": rating >= up})
    return feedback
