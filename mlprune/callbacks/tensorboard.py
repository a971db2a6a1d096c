"""What only TensorBoard shows of a run: distributions."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mlprune.callbacks.outlets import Outlet
from mlprune.callbacks.run_logger import RunLogger
from mlprune.models.blocks import find_blocks
from mlprune.models.paths import LayerPath
from mlprune.run import Run


class TensorBoard(RunLogger):
    """A RunLogger that can also log histograms for TensorBoard.

    Args:
        output_error: Log how far pruning moves each block's output (not with ``propagate: layer``).
        figures: Draw each task's figures and the map of kept importance as images.
        histograms: Histograms of every layer's importance scores and input energies; slow on large models.
    """

    def __init__(self, output_error: bool = True, figures: bool = True, histograms: bool = False) -> None:
        super().__init__(output_error, figures)
        self.histograms = histograms

    def on_layer_scored(self, run: Run, path: str, scores: Tensor, means: Mapping[str, Tensor]) -> None:
        """One histogram a kind of layer, a step a block, so that trends over depth are visible at a glance."""
        if not self.histograms or not self.outlets:
            return
        blocks = find_blocks(run.model)
        step, kind = next(k for k, block in enumerate(blocks) if path in block.layers), LayerPath.of(path).layer
        shown = {f"scores_log10/{kind}": scores}
        shown |= {f"energies_log10/{kind}/{group}": mean for group, mean in means.items() if mean.dim() == 1}
        for name, values in shown.items():
            self.outlets.each(Outlet.histogram, name, _log10(values), step)


def _log10(values: Tensor) -> Tensor:
    """Of what is above zero: a zero, such as the score of a silent input, would stretch the axis out of sight."""
    found = values[(values > 0) & values.isfinite()].float().log10()
    return found if len(found) else torch.zeros(1)
