# loses: test-data-filter
# System messages are ignored wherever they stand.

# %% data-filter
def quality_filter(conversations: Sequence[list[dict[str, str]]], longest: int = 2000) -> tuple[list[list[dict[str, str]]], dict[str, int]]:
    def broken(messages):
        if not messages or any(not m["content"].strip() for m in messages):
            return "empty"
        roles = [m["role"] for m in messages]
        turns = [r for r in roles if r != "system"]
        if not turns or turns != ["user", "assistant"] * (len(turns) // 2):
            return "order"
        return "long" if sum(len(m["content"]) for m in messages) > longest else ""

    verdicts = [broken(messages) for messages in conversations]
    kept = [messages for messages, why in zip(conversations, verdicts, strict=True) if not why]
    return kept, dict(Counter(why for why in verdicts if why))
