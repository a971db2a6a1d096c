"""GBLM: the gradient of a loss of the whole model, beside Wanda's norm."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from mlprune.errors import UserError
from mlprune.log import log
from mlprune.models.blocks import Block, look_at
from mlprune.models.encoder import has_encoder
from mlprune.pruning.capture import forward_inputs
from mlprune.pruning.gradients import (
    Squares,
    add_gradients,
    add_squares,
    check_alone,
    differentiable,
    gradient_moments,
    no_squares,
)
from mlprune.pruning.importance import Importance
from mlprune.pruning.losses import Loss, NextToken
from mlprune.pruning.statistics import LayerStatistics, Statistic


class GBLM(Importance):
    """Wanda plus the gradient of a loss of the whole dense model: ``|W| * (norm + scale * G)``.

    For each prompt alone, ``norm`` is the input's norm over its tokens and ``G`` the loss' gradient by the weight; both
    are root mean squares over prompts. With a loss over translation demonstrations it asks by gradient what translation
    needs. Source: Das et al. 2023, "Beyond Size: How Gradients Shape Pruning Decisions in Large Language Models"
    (arXiv 2311.04902).

    Cost: a forward and a backward pass of the whole model for each prompt, prompts one by one, and for each group a
    float64 number a weight of the whole model: not for streaming. The published code multiplies the loss by 100 and
    adds squares up over its 128 samples, so that gradients count for more the more samples there are; here ``scale``
    is on the mean, 100 * sqrt(128): the same at 128 prompts, and independent of their number.

    Args:
        loss: Loss of a prompt; :class:`mlprune.pruning.NextToken` if omitted.
        scale: How much the gradient counts.
        options: ``group`` or ``groups``, see :class:`mlprune.pruning.Importance`.

    Raises:
        UserError: If scale is negative.

    Example:
        >>> from mlprune.pruning import LayerStatistics
        >>> score = GBLM(scale=10)
        >>> moments = torch.tensor([[4.0, 9.0], [1.0, 1.0], [0.0, 0.25]])  # one prompt of one token, |g| = 0 and 0.5
        >>> seen = LayerStatistics({"mt": moments}, {"mt": torch.tensor(1)}, score.needs)
        >>> score.score(torch.tensor([[-1.0, 2.0]]), seen, "fc")
        tensor([[ 2., 16.]])
    """

    pools = ("tokens",)  # gradients are counted by prompt

    def __init__(self, loss: Loss | None = None, scale: float = 1131.37, **options: Any) -> None:
        super().__init__(**options)
        if scale < 0:
            raise UserError(f"GBLM: scale {scale} is not allowed; give 0 or more")
        self.loss = loss or NextToken()
        self.scale = scale
        self.needs: Statistic = gradient_moments(self.loss)

    @override
    def score(self, weight: Tensor, statistics: LayerStatistics | None, path: str) -> Tensor:
        return add_gradients(weight, statistics, self.needs, self.scale)


def model_gradients(
    model: nn.Module,
    blocks: Sequence[Block],
    batches: Sequence[Mapping[str, Any]],
    loss: Loss,
    groups: Sequence[str],
    device: torch.device,
    count_padding: bool = False,
) -> Squares:
    """Return the mean squares, over this process' prompts, of a loss' gradients by all weights.

    Args:
        model: A transformers model, in evaluation mode.
        blocks: Its blocks, with the layers that matter.
        batches: Batches of one prompt each.
        loss: The loss.
        groups: Names of all groups.
        device: Where the model is computed.
        count_padding: Pass no mask.

    Raises:
        UserError: If tokens attend to later ones, or a batch holds several prompts.
    """
    if not has_encoder(model) and look_at(model, list(blocks)).looks_ahead:
        raise UserError(f"{type(model).__name__} lets tokens attend to later ones, so it predicts no next token")
    layers = {path: layer for block in blocks for path, layer in block.layers.items()}
    squares = no_squares(layers, groups, device)
    log.info("gradients of %s over %d prompts", type(loss).__name__, len(batches))
    with differentiable(model, layers.values()):
        for batch in batches:
            check_alone(len(batch["input_ids"]))
            inputs = forward_inputs(batch, device, count_padding)
            add_squares(squares, batch.get("group", "default"), layers, loss(model, inputs))
    return squares
