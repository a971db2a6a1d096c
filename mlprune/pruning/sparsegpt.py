"""SparseGPT: prune column by column and let the columns still to come take over what each pruned weight did.

Shapes: W (out_features, in_features); H, U (in_features, in_features).
"""

import math
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from mlprune.errors import UserError
from mlprune.exact import accumulator_dtype
from mlprune.log import log
from mlprune.pruning.importance import Decision, Importance
from mlprune.pruning.patterns import NofM, Pattern, Unstructured
from mlprune.pruning.statistics import GRAM, LayerStatistics

MAX_ATTEMPTS = 8  # each with ten times the damping of the last


class SparseGPT(Importance):
    """Least damage to the layer's output, with the remaining weights adjusted.

    With ``H`` the damped Gram matrix of the inputs and ``U`` the upper Cholesky factor of its inverse, a weight scores
    ``W^2 / diag(U)^2``; pruning it adds its error to the columns on its right. Masks are chosen for ``columns`` columns
    at a time (N:M: for every M), from the weights as adjusted so far, each time so that the share pruned up to there is
    exact. Source: Frantar and Alistarh 2023, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot".

    Args:
        damping: Share of the mean diagonal that is added to the diagonal; ten times more, and so on, where the matrix
            still has no factor.
        columns: Columns whose mask is chosen at once.
        options: ``group`` or ``groups``, and ``pool``, see :class:`mlprune.pruning.Importance`.

    Raises:
        UserError: If an argument is out of range.

    Example:
        >>> gram = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
        >>> stats = LayerStatistics({"mt": gram}, {"mt": torch.tensor(9)})
        >>> SparseGPT(damping=0).decide(torch.tensor([[1.0, 2.0]]), stats, "fc", Unstructured(0.5), 0.5).weight
        tensor([[0.0000, 2.5000]])
    """

    needs = GRAM
    has_fixed_scores = False
    pools = ("tokens", "mean")  # the largest of several matrices is none

    def __init__(self, damping: float = 0.01, columns: int = 128, **options: Any) -> None:
        super().__init__(**options)
        if damping < 0 or columns < 1:
            raise UserError(
                f"SparseGPT: damping {damping}, columns {columns} not allowed; give damping >= 0, columns >= 1"
            )
        self.damping = damping
        self.columns = columns

    def score(self, weight: Tensor, statistics: LayerStatistics | None, path: str) -> Tensor:
        """Return the scores before any weight was adjusted."""
        assert statistics is not None
        factor = inverse_factor(self.seen(statistics).pooled(), self.damping, path)
        return (weight.float() / factor.diagonal().float()).square()

    @override
    def check_pattern(self, pattern: Pattern) -> None:
        if isinstance(pattern, NofM) or (isinstance(pattern, Unstructured) and pattern.drop == "lowest"):
            return
        given = "Unstructured(drop='highest')" if isinstance(pattern, Unstructured) else type(pattern).__name__
        raise UserError(f"SparseGPT prunes lowest scores; use it with Unstructured(drop='lowest') or NofM, not {given}")

    @override
    def decide(
        self, weight: Tensor, statistics: LayerStatistics | None, path: str, pattern: Pattern, sparsity: float
    ) -> Decision:
        assert statistics is not None
        factor = inverse_factor(self.seen(statistics).pooled(), self.damping, path).float()
        left = weight.float().clone()
        left[:, statistics.energies().pooled() == 0] = 0  # inputs that are always zero
        mask = torch.ones_like(weight, dtype=torch.bool)
        scores = torch.zeros_like(left)
        step = pattern.of if isinstance(pattern, NofM) else self.columns
        width = max(self.columns // step, 1) * step
        for start in range(0, left.shape[1], width):
            end = min(start + width, left.shape[1])
            self._prune_columns(left, mask, scores, factor, pattern, sparsity, (start, end, step))
        return Decision(mask, scores, left.to(weight.dtype))

    def _prune_columns(
        self,
        left: Tensor,
        mask: Tensor,
        scores: Tensor,
        factor: Tensor,
        pattern: Pattern,
        sparsity: float,
        span: tuple[int, int, int],
    ) -> None:
        """Prune the columns start ... end, choosing the mask every ``step`` columns, and adjust all to their right."""
        start, end, step = span
        part, local = left[:, start:end].clone(), factor[start:end, start:end]
        errors = torch.zeros_like(part)
        for column in range(end - start):
            if column % step == 0:
                chosen = slice(column, min(column + step, end - start))
                found = (part[:, chosen] / local.diagonal()[chosen]).square()
                kept = _choose(found, pattern, sparsity, start + column)
                absolute = slice(start + column, start + column + found.shape[1])
                scores[:, absolute], mask[:, absolute] = found, kept
            kept_column = mask[:, start + column]
            errors[:, column] = part[:, column].masked_fill(kept_column, 0) / local[column, column]
            part[:, column:] -= errors[:, column, None] * local[column, None, column:]
            part[:, column].masked_fill_(~kept_column, 0)
        left[:, start:end] = part
        left[:, end:] -= errors @ factor[start:end, end:]


def _choose(scores: Tensor, pattern: Pattern, sparsity: float, before: int) -> Tensor:
    """The mask of some columns, given how many columns stand before them.

    Rounding down is done on everything up to here, so that the whole has exactly the count that the pattern promises.
    """
    if not isinstance(pattern, Unstructured):
        return pattern.mask(scores, sparsity)
    rows = 1 if pattern.scope == "row" else scores.shape[0]
    columns = scores.shape[1]
    count = math.floor((before + columns) * rows * sparsity) - math.floor(before * rows * sparsity)
    return pattern.mask(scores, (count + 0.5) / (columns * rows) if count < columns * rows else 1.0)


def inverse_factor(gram: Tensor, damping: float, path: str) -> Tensor:
    """Return the upper Cholesky factor U of the damped matrix' inverse, ``U^T U = H^-1``.

    Found without the inverse: reversing rows and columns turns a lower factor into an upper one, and the inverse of
    that is U. Inputs that are always zero get a diagonal of one. Damping grows tenfold until there is a factor.

    Args:
        gram: (in_features, in_features), mean of ``x x^T``.
        damping: Share of the mean diagonal to add.
        path: The layer, for messages.

    Raises:
        UserError: If no damping helps.

    Example:
        >>> H = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
        >>> U = inverse_factor(H / 2, 0.0, "fc")
        >>> torch.allclose(U.T @ U, torch.linalg.inv(H))
        True
    """
    hessian = 2 * gram.to(accumulator_dtype(gram.device))
    diagonal = hessian.diagonal()
    diagonal[diagonal == 0] = 1
    mean, share = float(diagonal.mean()), damping
    identity = torch.eye(len(hessian), dtype=hessian.dtype, device=hessian.device)
    for _ in range(MAX_ATTEMPTS):
        lower, failed = torch.linalg.cholesky_ex((hessian + identity * (share * mean)).flip(0, 1))
        if not int(failed):
            factor: Tensor = torch.linalg.solve_triangular(lower.flip(0, 1), identity, upper=True)
            if bool(torch.isfinite(factor).all()):
                if share > damping:
                    text = "%s: Gram matrix is not positive definite; damped by %g instead of %g"
                    log.warning(text, path, share, damping)
                return factor
        share = max(share * 10, 1e-6)
    raise UserError(f"{path}: the Gram matrix has no Cholesky factor even with damping {share:g}; give more prompts")
