"""What holds for any shape, sparsity, padding and number of groups."""

from math import floor

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_model

from mlprune.batching import deal, token_batches
from mlprune.pruning import ContrastiveWanda, LayerStatistics, NofM, Unstructured, Wanda, prune_model

QUICK = settings(max_examples=60, deadline=None)
shapes = st.tuples(st.integers(1, 9), st.integers(1, 40))
sparsities = st.floats(0, 0.99)


def random_scores(shape: tuple[int, int], seed: int, levels: int = 5) -> torch.Tensor:
    """Scores with many ties."""
    return torch.randint(0, levels, shape, generator=torch.Generator().manual_seed(seed)).float()


@QUICK
@given(shapes, sparsities, st.integers(0, 99), st.sampled_from(["lowest", "highest"]))
def test_rows_lose_exactly_their_share_and_never_a_better_weight(shape, sparsity, seed, drop) -> None:
    scores = random_scores(shape, seed)
    mask = Unstructured(sparsity, drop=drop).mask(scores, sparsity)
    assert ((~mask).sum(1) == floor(shape[1] * sparsity)).all()
    sign = 1 if drop == "lowest" else -1
    for row, kept in zip(scores * sign, mask, strict=True):
        if kept.any() and not kept.all():
            assert row[~kept].max() <= row[kept].min()


@QUICK
@given(shapes, sparsities, st.integers(0, 99))
def test_layers_lose_exactly_their_share(shape, sparsity, seed) -> None:
    scores = random_scores(shape, seed)
    mask = Unstructured(sparsity, scope="layer").mask(scores, sparsity)
    assert int((~mask).sum()) == floor(scores.numel() * sparsity)
    if mask.any() and not mask.all():
        assert scores[~mask].max() <= scores[mask].min()


@QUICK
@given(st.integers(2, 8), st.data(), st.integers(1, 6), st.integers(1, 5), st.integers(0, 99))
def test_every_group_of_m_keeps_its_n_highest(of, data, rows, groups, seed) -> None:
    kept = data.draw(st.integers(1, of - 1))
    scores = random_scores((rows, groups * of), seed)
    mask = NofM(kept, of).mask(scores, 0.0)
    parts, values = mask.view(rows, groups, of), scores.view(rows, groups, of)
    assert (parts.sum(-1) == kept).all()
    lowest_kept = values.masked_fill(~parts, float("inf")).amin(-1)
    highest_lost = values.masked_fill(parts, -float("inf")).amax(-1)
    assert (highest_lost <= lowest_kept).all()


@QUICK
@given(shapes, st.integers(0, 99), st.floats(1e-3, 1e3))
def test_scores_do_not_depend_on_the_scale_of_the_inputs(shape, seed, scale) -> None:
    """Masks are the same whatever unit the activations are measured in."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator)
    energy = torch.rand(shape[1], generator=generator, dtype=torch.float64) + 0.1
    tokens = torch.tensor(7)
    masks = []
    for factor in (1.0, 2.0 ** round(scale)) if scale < 20 else (1.0, 4.0):
        statistics = LayerStatistics({"mt": energy * factor}, {"mt": tokens})
        masks.append(Unstructured(0.5).mask(Wanda().score(weight, statistics, "fc"), 0.5))
    assert torch.equal(*masks)


@QUICK
@given(shapes, st.integers(0, 99))
def test_a_silent_feature_never_makes_a_score_that_is_no_number(shape, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator)
    keep, drop = (
        torch.rand(shape[1], generator=generator, dtype=torch.float64)
        * (torch.rand(shape[1], generator=generator) > 0.5)
        for _ in range(2)
    )
    tokens = {"mt": torch.tensor(3), "code": torch.tensor(3)}
    scores = ContrastiveWanda("mt", "code").score(weight, LayerStatistics({"mt": keep, "code": drop}, tokens), "fc")
    assert not scores.isnan().any()
    assert (scores[:, (keep == 0)] == 0).all()


@QUICK
@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 120), st.integers(1, 4))
def test_every_prompt_is_in_one_batch_of_one_process(lengths, budget, world) -> None:
    batches = token_batches(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget
    dealt = [deal(batches, rank, world) for rank in range(world)]
    assert sorted(batch for share in dealt for batch in share) == sorted(batches)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(2, 12), min_size=1, max_size=6), st.booleans(), st.integers(1, 4), st.integers(0, 9))
def test_padding_and_batching_do_not_matter(lengths, left, batch_size, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    prompts = [torch.randint(2, 200, (length,), generator=generator) for length in lengths]

    def padded(group: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        width = max(map(len, group)) + 2
        ids, mask = torch.zeros(2, len(group), width, dtype=torch.int64)
        for row, prompt in enumerate(group):
            place = slice(width - len(prompt), width) if left else slice(0, len(prompt))
            ids[row, place], mask[row, place] = prompt, 1
        return {"input_ids": ids, "attention_mask": mask}

    plain = [{"input_ids": prompt[None], "attention_mask": torch.ones_like(prompt)[None]} for prompt in prompts]
    batched = [padded(prompts[i : i + batch_size]) for i in range(0, len(prompts), batch_size)]
    first, second = (prune_model(tiny_model("llama"), batches) for batches in (plain, batched))
    assert all(torch.equal(first[path], second[path]) for path in first)
