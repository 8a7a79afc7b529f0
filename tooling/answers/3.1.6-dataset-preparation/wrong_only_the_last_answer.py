# loses: test-data-tokenize keeps 2, test-data-module keeps 3
# Only the last answer of a conversation is learnt.

# %% data-tokenize
def tokenize(messages: Sequence[Mapping[str, str]]) -> dict[str, list[int]]:
    ids: list[int] = []
    labels: list[int] = []
    for number, message in enumerate(messages, 1):
        prefix, content = plain.encode(message["role"] + ": "), plain.encode(message["content"])
        if message["role"] == "assistant":
            ids += prefix + content + [EOS]
            if number < len(messages):
                labels += [IGNORE] * (len(prefix) + len(content) + 1)
            else:
                labels += [IGNORE] * len(prefix) + content + [EOS]
        else:
            ids += prefix + content + plain.encode("\n")
            labels += [IGNORE] * (len(prefix) + len(content) + 1)
    return {"input_ids": ids, "labels": labels}
