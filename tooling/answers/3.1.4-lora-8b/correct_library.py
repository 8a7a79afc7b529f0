# Other ways: filters, one example at a time, autograd on a sum of sums, transformers' schedule, TrainingArguments by hand.

# %% sft-split
def side(prompt, share, seed):
    words = prompt.casefold().split() if prompt.isascii() else prompt.lower().split()
    digest = hashlib.sha256((str(seed) + ":" + " ".join(words)).encode("utf-8")).hexdigest()
    return int(digest[:16], 16) / 2**64 < share


def split_by_prompt(examples: Sequence[Mapping], share: float, seed: int = 0) -> tuple[list, list]:
    if share <= 0 or share >= 1:
        raise ValueError("share")
    chosen = [side(e["prompt"], share, seed) for e in examples]
    return [e for e, c in zip(examples, chosen, strict=True) if not c], [e for e, c in zip(examples, chosen, strict=True) if c]


# %% sft-loss
@torch.no_grad()
def answer_loss(model: nn.Module, examples: Sequence[Mapping[str, str]], batch: int = 32) -> float:
    was = model.training
    model.eval()
    losses = []
    for example in examples:  # one text at a time: no filling at all
        prompt = list(example["prompt"].encode())
        text = [*prompt, *example["completion"].encode(), 257]
        ids = torch.tensor([text])
        logps = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, :-1].log_softmax(-1)
        each = -logps.gather(1, ids[0, 1:, None])[:, 0]
        losses.append(each[max(len(prompt) - 1, 0) :])
    if was:
        model.train()
    return torch.cat(losses).mean().item()


# %% sft-memory
def predict_bytes(model: nn.Module, r: int, targets: Sequence[str]) -> dict[str, int]:
    sizes = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            sizes.setdefault(name.split(".")[-1], []).append(sum(module.weight.shape))
    missing = [t for t in targets if t not in sizes]
    if missing:
        raise ValueError("not found: " + ", ".join(missing))
    adapters = 4 * r * sum(sum(sizes[t]) for t in set(targets))
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return {"weights": weights, "adapters": adapters, "gradients": adapters, "optimizer": 2 * adapters, "total": weights + 4 * adapters}


# %% sft-accumulate
def accumulate(model: nn.Module, micro_batches: Sequence[Mapping[str, Tensor]]) -> float:
    counts = [int((part["labels"][:, 1:] >= 0).sum()) for part in micro_batches]
    if not any(counts):
        raise ValueError("nothing to learn from")
    for p in model.parameters():
        p.grad = None
    total = 0.0
    for part, count in zip(micro_batches, counts, strict=True):
        if not count:
            continue
        logits = model(input_ids=part["input_ids"], attention_mask=part["attention_mask"]).logits
        mean = cross_entropy(logits[:, :-1].transpose(1, 2), part["labels"][:, 1:], ignore_index=-100)
        share = mean * (count / sum(counts))
        share.backward()
        total += float(share.detach())
    return total


# %% sft-schedule
def learning_rate_at(step: int, total: int, warmup: int, peak: float, floor: float = 0.0) -> float:
    if step < 0 or warmup < 0 or warmup >= total:
        raise ValueError("no such schedule")
    if step < warmup:
        return step / warmup * peak
    if step >= total:
        return float(floor)
    angle = math.pi * (step - warmup) / (total - warmup)
    return floor + (peak - floor) * math.cos(angle / 2) ** 2


# %% sft-run
def fine_tune(model, examples, *, steps, micro_batch, accumulation, peak, warmup, r, alpha, noise=None, seed=0):
    place = tempfile.mkdtemp()
    torch.manual_seed(seed)
    adapted = get_peft_model(copy.deepcopy(model), LoraConfig(r=r, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM"))
    extra = {} if noise is None else {"neftune_noise_alpha": noise}
    args = SFTConfig(output_dir=place, max_steps=steps, per_device_train_batch_size=micro_batch, learning_rate=peak,
                     gradient_accumulation_steps=accumulation, warmup_steps=warmup, lr_scheduler_type="cosine", seed=seed,
                     logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True, bf16=False,
                     completion_only_loss=True, **extra)
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = SFTTrainer(adapted, args=args, train_dataset=Dataset.from_list([dict(e) for e in examples]), processing_class=tokenizer)
        trainer.train()
    history = [line for line in trainer.state.log_history if "loss" in line]
    trainer.model.eval()
    return trainer.model, history
