# loses: test-dora-fair-trial keeps 2
# One copy per seed: the second arm starts from what the first has trained.
# %% dora-fair-trial
def fair_trial(
    base: nn.Module,
    arms: Mapping[str, Callable[[nn.Module], None]],
    seeds: Sequence[int],
    make_batches: Callable[[int], list],
    train: Callable[[nn.Module, list], None],
    score: Callable[[nn.Module], float],
) -> dict[str, dict[int, float]]:
    if len(set(seeds)) != len(seeds):
        raise ValueError("seeds must differ")
    scores = {name: {} for name in arms}
    for seed in seeds:
        batches = make_batches(seed)
        model = copy.deepcopy(base)
        for name, prepare in arms.items():
            torch.manual_seed(seed)
            prepare(model)
            torch.manual_seed(seed)
            train(model, batches)
            scores[name][seed] = score(model)
    return scores
