# loses: test-data-filter, test-data-module keeps 2
# Rules that removed nothing are reported with 0.

# %% data-filter
def quality_filter(conversations: Sequence[list[dict[str, str]]], longest: int = 2000) -> tuple[list[list[dict[str, str]]], dict[str, int]]:
    def broken(messages):
        if not messages or any(not m["content"].strip() for m in messages):
            return "empty"
        roles = [m["role"] for m in messages]
        turns = roles[1:] if roles[0] == "system" else roles
        if not turns or turns != ["user", "assistant"] * (len(turns) // 2):
            return "order"
        return "long" if sum(len(m["content"]) for m in messages) > longest else ""

    verdicts = [broken(messages) for messages in conversations]
    kept = [messages for messages, why in zip(conversations, verdicts, strict=True) if not why]
    return kept, {rule: verdicts.count(rule) for rule in ("empty", "order", "long")}
