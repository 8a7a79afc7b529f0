# loses: test-data-chatml
# The newline behind the end marker is missing.

# %% data-chatml
def render_chatml(messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = False) -> str:
    for message in messages:
        if any(marker in message["content"] for marker in ("<|im_start|>", "<|im_end|>")):
            raise ValueError(f"a message of the {message['role']} contains a marker of the template")
    parts = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>" for m in messages]
    return "".join(parts) + ("<|im_start|>assistant\n" if add_generation_prompt else "")
