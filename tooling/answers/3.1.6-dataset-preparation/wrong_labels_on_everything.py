# loses: test-data-tokenize keeps 2, test-data-module
# Every token is learnt, the user's too.

# %% data-tokenize
def tokenize(messages: Sequence[Mapping[str, str]]) -> dict[str, list[int]]:
    ids: list[int] = []
    labels: list[int] = []
    for message in messages:
        prefix, content = plain.encode(message["role"] + ": "), plain.encode(message["content"])
        if message["role"] == "assistant":
            ids += prefix + content + [EOS]
            labels += prefix + content + [EOS]
        else:
            ids += prefix + content + plain.encode("\n")
            labels += prefix + content + plain.encode("\n")
    return {"input_ids": ids, "labels": labels}
