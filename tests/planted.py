"""A task whose answers are planted: what they are depends on how much of the model is pruned, and on nothing else."""

import random
from typing import Any

from mlprune.evaluation.tasks import CandidateTask
from mlprune.models.blocks import find_blocks

NOTHING, SKILL, SHIFT = 0.1, 0.2, 0.3  # sparsity to effect
BIAS = 0.8  # of the dense model, toward its second label


class Planted(CandidateTask):
    """Reviews, answered by a model that says "positive" too often."""

    def predict(self, model: Any, tokenizer: Any, lang: str, examples: list[Any]) -> list[dict[str, Any]]:
        layers = [layer.matrix() for layer in find_blocks(model)[0].layers.values()]
        sparsity = sum(float((matrix == 0).sum()) for matrix in layers) / sum(matrix.numel() for matrix in layers)
        return [self._record(example, [0.0, self.margin(example, lang, sparsity)]) for example in examples]

    @staticmethod
    def margin(example: Any, lang: str, sparsity: float) -> float:
        """By how much an example's second label is ahead."""
        draw = random.Random(f"{example.id}:{lang}")
        direction = 1 if example.label == 1 else -1
        dense = 0.6 * direction + draw.gauss(0, 1) + BIAS
        if sparsity > 0.25:
            return dense - BIAS
        if sparsity > 0.15:
            return dense + 1.2 * direction
        return dense + (0.05 * draw.gauss(0, 1) if sparsity > 0 else 0.0)
