# loses: test-moe-permutation, test-moe-module
# Shuffles as good as the truth do not count.

# %% moe-permutation
def permutation_test(
    experts: Tensor, prompts: Tensor, domains: Tensor, permutations: Tensor, num_experts: int
) -> dict[str, float]:
    count = int(domains.max()) + 1
    true = mutual_information(experts, domains[prompts], count, num_experts)
    shuffled = [mutual_information(experts, domains[order][prompts], count, num_experts) for order in permutations]
    above = sum(value > true + 1e-9 for value in shuffled)
    return {"information": true, "chance": sum(shuffled) / len(shuffled), "p": (1 + above) / (1 + len(shuffled))}
