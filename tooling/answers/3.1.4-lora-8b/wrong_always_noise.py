# loses: test-sft-run keeps 0
# Noise also where none was ordered.

# %% sft-run
def fine_tune(
    model: nn.Module, examples: Sequence[Mapping[str, str]], *, steps: int, micro_batch: int, accumulation: int, peak: float,
    warmup: int, r: int, alpha: float, noise: float | None = None, seed: int = 0,
) -> tuple[PeftModel, list[dict]]:  # fmt: skip
    adapters = LoraConfig(r=r, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        config = SFTConfig(
            output_dir=folder, max_steps=steps, per_device_train_batch_size=micro_batch, gradient_accumulation_steps=accumulation,
            learning_rate=peak, warmup_steps=warmup, lr_scheduler_type="cosine",
            neftune_noise_alpha=noise or 5.0, completion_only_loss=True, max_length=None, gradient_checkpointing=False, seed=seed,
            logging_steps=1, save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True, bf16=False,
        )  # fmt: skip
        torch.manual_seed(seed)
        trainer = SFTTrainer(model=copy.deepcopy(model), args=config, train_dataset=Dataset.from_list(list(examples)),
                             processing_class=tokenizer, peft_config=adapters)
        trainer.train()
    return trainer.model.eval(), [entry for entry in trainer.state.log_history if "loss" in entry]
