# loses: test-kto-feedback, test-kto-module keeps 3
# A missing rating is taken for a thumb down.

# %% kto-feedback
def to_feedback(log: Sequence[Mapping], up: int = 4, down: int = 2) -> list[dict]:
    if down >= up:
        raise ValueError(f"down ({down}) must be below up ({up})")
    feedback = []
    for entry in log:
        rating = entry["rating"]
        if rating is None:
            rating = 1
        if not 1 <= rating <= 5:
            raise ValueError(f"a rating must be from 1 to 5, not {rating}")
        if down < rating < up or not entry["answer"].strip():
            continue
        feedback.append({"prompt": entry["prompt"], "completion": entry["answer"], "label": rating >= up})
    return feedback
