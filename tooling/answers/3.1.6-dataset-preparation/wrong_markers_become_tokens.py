# loses: test-data-tokenize keeps 3
# transformers' tokenizer makes the end token of a text.

# %% data-tokenize
def tokenize(messages: Sequence[Mapping[str, str]]) -> dict[str, list[int]]:
    ids: list[int] = []
    labels: list[int] = []
    for message in messages:
        prefix, content = plain.encode(message["role"] + ": "), tiny.fast_tokenizer()(message["content"])["input_ids"]
        if message["role"] == "assistant":
            ids += prefix + content + [EOS]
            labels += [IGNORE] * len(prefix) + content + [EOS]
        else:
            ids += prefix + content + plain.encode("\n")
            labels += [IGNORE] * (len(prefix) + len(content) + 1)
    return {"input_ids": ids, "labels": labels}
