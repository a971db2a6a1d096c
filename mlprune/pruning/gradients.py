"""Gradients as a statistic: mean squares over prompts of a loss' gradient by each weight, with the inputs' energies.

Shapes: W, gradient (out_features, in_features), stacked experts (experts, out_features, in_features); statistic
(2 + out_features, in_features): energies, prompts per token, and the gradients' squares per token.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from mlprune.errors import UserError
from mlprune.exact import accumulator_dtype
from mlprune.models.blocks import Block
from mlprune.models.layers import Layer
from mlprune.pruning.importance import magnitudes
from mlprune.pruning.losses import Loss
from mlprune.pruning.observe import BlockStatistics, Masks
from mlprune.pruning.statistics import ENERGY, LayerStatistics, Statistic, TokenMean
from mlprune.pruning.sums import sum_of_squares

Squares = dict[str, dict[str, TokenMean]]  # layer path to group to mean square of the gradient over prompts


@dataclass(frozen=True)
class GradientMoments(Statistic):
    """Energies of a layer's inputs, and mean squares of gradients by its weights, a prompt at a time.

    Args:
        loss: Loss of the whole dense model; if omitted, the norm of the output of the layer's own block, on the inputs
            that the block is calibrated on.
    """

    loss: Loss | None = field(default=None, compare=False)  # the name says which

    @override
    def shape(self, in_features: int) -> tuple[int, ...]:
        raise AssertionError("gradients have the shape of a weight matrix")

    @override
    def energy(self, mean: Tensor) -> Tensor:
        return mean[..., 0, :]


def gradient_moments(loss: Loss | None = None) -> GradientMoments:
    """Return the statistic of a loss' gradients.

    Example:
        >>> from mlprune.pruning import NextToken
        >>> gradient_moments(NextToken()).name, gradient_moments(NextToken()) == gradient_moments(NextToken())
        ('gradients of NextToken()', True)
    """
    scope: Literal["block", "model"] = "block" if loss is None else "model"
    name = f"gradients of {'block outputs' if loss is None else loss}"
    return GradientMoments(name, sum_of_squares, 2, is_stored=False, one_prompt=True, scope=scope, loss=loss)


def norms_and_gradients(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Return the norms of inputs over a prompt's tokens, (in_features,), and the gradients, like the weight.

    Both are root mean squares over prompts.

    Args:
        moments: (2 + out_features, in_features), pooled.

    Example:
        >>> norms_and_gradients(torch.tensor([[8.0, 18.0], [2.0, 2.0], [0.0, 0.5]]))
        (tensor([2., 3.]), tensor([[0.0000, 0.5000]]))
    """
    energy, prompts, *_ = moments
    return (energy / prompts).sqrt(), (moments[2:] / prompts).sqrt_()


def add_gradients(weight: Tensor, statistics: LayerStatistics | None, needs: Statistic, factor: float) -> Tensor:
    """Return ``|W| * (norm + factor * G)``, of :func:`norms_and_gradients`."""
    assert statistics is not None
    norms, gradients = norms_and_gradients(statistics.part(needs).pooled())
    return magnitudes(weight).mul_(gradients.mul_(factor).add_(norms).float())


class GradientStatistics(BlockStatistics):
    """Energies and gradients of one block's layers by group.

    Args:
        block: The block.
        statistic: Which gradients.
        groups: As for :class:`mlprune.pruning.observe.BlockStatistics`.
        device: Where the block is computed.
        squares: The gradients, where they are of the whole model's loss.
    """

    def __init__(
        self,
        block: Block,
        statistic: GradientMoments,
        groups: list[str],
        device: torch.device,
        squares: Squares | None = None,
    ) -> None:
        super().__init__(block, ENERGY, groups, device)
        self.gradients = statistic
        self.squares = no_squares(block.layers, groups, device) if squares is None else squares

    @override
    def watch(
        self, call: Callable[[], Tensor], group: str, masks: Masks, stop: bool, num_prompts: int = 1
    ) -> Tensor | None:
        if self.gradients.loss is not None:
            return super().watch(call, group, masks, stop, num_prompts)
        check_alone(num_prompts)
        with differentiable(self.block.module, self.block.layers.values()):
            output = super().watch(call, group, masks, stop=False)
            assert output is not None
            add_squares(self.squares, group, self.block.layers, output.float().norm())
        return output.detach()

    @override
    def result(self, paths: Iterable[str] | None = None) -> dict[str, LayerStatistics]:
        found = {}
        for path, layer in super().result(paths).items():
            joined = {}
            for group, energy in layer.means.items():
                squares, prompts = self.squares[path][group].result()
                tokens = layer.tokens[group].clamp(min=1).to(energy.dtype)[..., None, None]
                share = (prompts / tokens).expand(*energy.shape[:-1], 1, energy.shape[-1])
                joined[group] = torch.cat([energy.unsqueeze(-2), share, squares * (prompts / tokens)], dim=-2)
            found[path] = LayerStatistics(joined, layer.tokens, self.gradients)
        return found


def no_squares(layers: Mapping[str, Layer], groups: Sequence[str], device: torch.device) -> Squares:
    """Return sums of gradients' squares, empty."""
    shapes = {path: tuple(layer.matrix().shape) for path, layer in layers.items()}
    return {path: {group: TokenMean(shape, device) for group in groups} for path, shape in shapes.items()}


def add_squares(squares: Squares, group: str, layers: Mapping[str, Layer], loss: Tensor) -> None:
    """Add the squares of a prompt's gradients to a group's.

    Args:
        squares: From :func:`no_squares`; changed in place.
        group: The group.
        layers: Layer path to layer, inside of :func:`differentiable`.
        loss: The prompt's loss, with its graph.
    """
    found = torch.autograd.grad(loss, [layer.stored for layer in layers.values()], allow_unused=True)
    for (path, layer), gradient in zip(layers.items(), found, strict=True):
        mean = squares[path][group]
        if gradient is None:  # of an expert that no token was routed to
            gradient = torch.zeros_like(layer.stored)
        gradient = gradient.to(accumulator_dtype(gradient.device))
        mean.update((gradient.transpose(-1, -2) if layer.transposed else gradient).square(), tokens=1)


@contextmanager
def differentiable(model: nn.Module, layers: Iterable[Layer]) -> Iterator[None]:
    """While open, a graph is kept for the weights of some layers of a model, and for no other parameter.

    Raises:
        UserError: If PyTorch's inference mode is on.

    Example:
        >>> from mlprune.models.layers import find_layers
        >>> model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
        >>> with torch.no_grad(), differentiable(model, [find_layers(model, "m")["m.1"]]):
        ...     model(torch.ones(1, 1)).requires_grad, [own.requires_grad for own in model.parameters()]
        (True, [False, False, True, False])
    """
    if torch.is_inference_mode_enabled():
        raise UserError("trainer.inference_mode true keeps no gradients; leave it false")
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        for parameter in before:
            parameter.requires_grad_(False)
        for layer in layers:
            layer.stored.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for parameter, required in before.items():
            parameter.requires_grad_(required)


def check_alone(num_prompts: int) -> None:
    """Refuse batches that would give the gradient of several prompts' sum."""
    if num_prompts != 1:
        raise UserError("gradients are taken of one prompt at a time; form the batches with form_batches")
