# loses: test-data-messages
# ShareGPT's names are kept.

# %% data-messages
def to_messages(record: Mapping) -> list[dict[str, str]]:
    roles = {"system": "system", "user": "user", "human": "human", "assistant": "assistant", "gpt": "gpt"}
    if "messages" in record:
        pairs = [(m["role"], m["content"]) for m in record["messages"]]
    elif "conversations" in record:
        pairs = [(m["from"], m["value"]) for m in record["conversations"]]
    elif "instruction" in record and "output" in record:
        more = (record.get("input") or "").strip()
        pairs = [("user", record["instruction"].strip() + ("\n\n" + more if more else "")), ("assistant", record["output"])]
    else:
        raise ValueError(f"neither Alpaca, ShareGPT nor OpenAI: the record has the keys {sorted(record)}")
    for role, _ in pairs:
        if role not in roles:
            raise ValueError(f"unknown role {role!r}")
    return [{"role": roles[role], "content": content.strip()} for role, content in pairs]
