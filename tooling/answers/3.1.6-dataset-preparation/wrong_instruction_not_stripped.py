# loses: test-data-messages
# White space is taken from the ends only, so that of the instruction stays before the input.

# %% data-messages
def to_messages(record: Mapping) -> list[dict[str, str]]:
    roles = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
    if "messages" in record:
        pairs = [(m["role"], m["content"]) for m in record["messages"]]
    elif "conversations" in record:
        pairs = [(m["from"], m["value"]) for m in record["conversations"]]
    elif "instruction" in record and "output" in record:
        pairs = [("user", record["instruction"] + "\n\n" + (record.get("input") or "")), ("assistant", record["output"])]
    else:
        raise ValueError(f"neither Alpaca, ShareGPT nor OpenAI: the record has the keys {sorted(record)}")
    for role, _ in pairs:
        if role not in roles:
            raise ValueError(f"unknown role {role!r}")
    return [{"role": roles[role], "content": content.strip()} for role, content in pairs]
