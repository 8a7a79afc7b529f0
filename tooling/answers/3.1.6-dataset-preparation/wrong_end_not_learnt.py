# loses: test-data-tokenize keeps 2, test-data-module keeps 3
# The end token has no label: answers never stop.

# %% data-tokenize
def tokenize(messages: Sequence[Mapping[str, str]]) -> dict[str, list[int]]:
    ids: list[int] = []
    labels: list[int] = []
    for message in messages:
        prefix, content = plain.encode(message["role"] + ": "), plain.encode(message["content"])
        if message["role"] == "assistant":
            ids += prefix + content + [EOS]
            labels += [IGNORE] * len(prefix) + content + [IGNORE]
        else:
            ids += prefix + content + plain.encode("\n")
            labels += [IGNORE] * (len(prefix) + len(content) + 1)
    return {"input_ids": ids, "labels": labels}
