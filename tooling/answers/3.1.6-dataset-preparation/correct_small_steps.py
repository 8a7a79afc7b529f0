# In small steps: a match statement, a template object, generators, a shelf of free places.

# %% data-messages
def to_messages(record: Mapping) -> list[dict[str, str]]:
    match record:
        case {"messages": turns}:
            pairs = [(turn["role"], turn["content"]) for turn in turns]
        case {"conversations": turns}:
            names = {"human": "user", "gpt": "assistant"}
            pairs = [(names.get(turn["from"], turn["from"]), turn["value"]) for turn in turns]
        case {"instruction": question, "output": answer}:
            parts = [question.strip(), (record.get("input") or "").strip()]
            pairs = [("user", "\n\n".join(p for p in parts if p)), ("assistant", answer)]
        case _:
            raise ValueError("unknown format")
    unknown = {role for role, _ in pairs} - {"system", "user", "assistant"}
    if unknown:
        raise ValueError(f"unknown roles: {sorted(unknown)}")
    return [{"role": role, "content": content.strip()} for role, content in pairs]


# %% data-chatml
def render_chatml(messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = False) -> str:
    text = ""
    for message in messages:
        if "<|im_start|>" in message["content"] or "<|im_end|>" in message["content"]:
            raise ValueError("a marker in a content")
        text += "<|im_start|>" + message["role"] + "\n" + message["content"] + "<|im_end|>" + "\n"
    if add_generation_prompt:
        text += "<|im_start|>assistant\n"
    return text


# %% data-tokenize
def tokenize(messages: Sequence[Mapping[str, str]]) -> dict[str, list[int]]:
    def pieces():
        for m in messages:
            mine = m["role"] == "assistant"
            yield list(f"{m['role']}: ".encode()), False
            yield list(m["content"].encode()), mine
            yield ([EOS] if mine else [10]), mine

    parts = list(pieces())
    ids = [token for tokens, _ in parts for token in tokens]
    labels = [token if learnt else IGNORE for tokens, learnt in parts for token in tokens]
    return {"input_ids": ids, "labels": labels}


# %% data-filter
def quality_filter(conversations: Sequence[list[dict[str, str]]], longest: int = 2000) -> tuple[list[list[dict[str, str]]], dict[str, int]]:
    kept, dropped = [], {}
    for messages in conversations:
        roles = "".join(m["role"][0] for m in messages)
        body = roles[1:] if roles.startswith("s") else roles
        if len(messages) == 0 or not all(m["content"].strip() for m in messages):
            why = "empty"
        elif body == "" or body.replace("ua", "") != "":
            why = "order"
        elif len("".join(m["content"] for m in messages)) > longest:
            why = "long"
        else:
            kept.append(messages)
            continue
        dropped[why] = dropped.get(why, 0) + 1
    return kept, dropped


# %% data-dedup
def deduplicate(texts: Sequence[str], n: int = 3, threshold: float = 0.7) -> list[int]:
    if n < 1 or threshold <= 0 or threshold > 1:
        raise ValueError((n, threshold))

    def words_of(text):
        for word in text.split():
            word = word.lower().strip(".,;:!?\"'")
            if word:
                yield word

    def cut(text):
        words = list(words_of(text))
        return frozenset(zip(*(words[i:] for i in range(n)), strict=False)) or frozenset([tuple(words)])

    kept = {}
    for index, mine in enumerate(map(cut, texts)):
        for other in kept.values():
            common = len(mine & other)
            if common / (len(mine) + len(other) - common) >= threshold:
                break
        else:
            kept[index] = mine
    return list(kept)


# %% data-pack
def pack(examples: Sequence[Mapping[str, list[int]]], length: int) -> dict[str, Tensor]:
    sizes = [len(e["input_ids"]) for e in examples]
    if sizes and (min(sizes) < 1 or max(sizes) > length):
        raise ValueError("an example does not fit")
    free, rows = [], []
    for k in sorted(range(len(sizes)), key=lambda k: -sizes[k]):
        place = next((r for r, room in enumerate(free) if room >= sizes[k]), len(free))
        if place == len(free):
            free.append(length)
            rows.append([[], [], [], []])
        free[place] -= sizes[k]
        ids, labels, positions, segments = rows[place]
        segments += [max(segments, default=0) + 1] * sizes[k]
        ids += examples[k]["input_ids"]
        labels += examples[k]["labels"]
        positions += range(sizes[k])
    fills = (PAD, IGNORE, 0, 0)
    table = [[column + [fill] * room for column, fill in zip(row, fills, strict=True)] for row, room in zip(rows, free, strict=True)]
    out = torch.tensor(table, dtype=torch.int64).reshape(len(rows), 4, length)
    return dict(zip(("input_ids", "labels", "position_ids", "segments"), out.unbind(1), strict=True))


# %% data-mask
def attention_mask(segments: Tensor) -> Tensor:
    n = segments.shape[-1]
    place = torch.arange(n)
    same = segments.unsqueeze(2).eq(segments.unsqueeze(1)) & segments.ne(0).unsqueeze(1)
    allowed = torch.where(place[None, :] == place[:, None], True, same & (place[None, :] < place[:, None]))
    return allowed.unsqueeze(1)
