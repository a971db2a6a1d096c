"""The callback that measures features on the evaluated texts, dense against pruned."""

from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from mlprune.analysis.feature_figures import stage_curves
from mlprune.analysis.magnitudes import Magnitudes, Means
from mlprune.callbacks.base import RunCallback
from mlprune.callbacks.features import csv_text, save_figures
from mlprune.errors import UserError
from mlprune.files import write_text
from mlprune.models.tokens import embedding_rows, encode
from mlprune.pruning.prune import pad_right


class EvaluatedFeatures(RunCallback):
    """Measures hidden states on the texts that ``test`` evaluates; one more forward pass of each.

    A text is an example with its right answer, a sentence to translate with its reference, or the text itself. Writes
    features.test.csv (stage, task, language, layer, dimension, magnitude); in ``fit`` also the share of the dense
    model's largest features that are largest after pruning too, as figures/features.test.png.

    Args:
        percent: The share of a layer's features that counts as its largest.
    """

    def __init__(self, percent: float = 30.0) -> None:
        if not 0 < percent <= 100:
            raise UserError(f"EvaluatedFeatures: percent {percent} is not allowed; give more than 0, at most 100")
        self.percent = percent
        self._magnitudes: Magnitudes | None = None
        self._means: dict[str, Means] = {}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start with nothing measured."""
        self._magnitudes = Magnitudes(self.run.model, linear_inputs=False)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measure the batch's texts."""
        assert self._magnitudes is not None
        module, limit = self.run.module, self.run.data.max_tokens
        rows = embedding_rows(self.run.model)
        ids = [encode(module.tokenizer, evaluated_text(example), rows)[:limit] for example in batch.examples]
        for start in range(0, len(ids), 8):  # few at a time, for memory
            prompts = [torch.tensor(row) for row in ids[start : start + 8]]
            tokens, mask = pad_right(prompts)
            group = f"{batch.task.name},{batch.lang}"
            self._magnitudes.add({"input_ids": tokens, "attention_mask": mask, "group": group})

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add up over processes and write."""
        assert self._magnitudes is not None
        self._magnitudes.reduce()
        self._means[self.run.module.pruning_stage] = self._magnitudes.hidden()
        self._magnitudes = None
        if not self.run.writes:
            return
        rows = {
            (stage, *group.split(",")): mean for stage, means in self._means.items() for group, mean in means.items()
        }
        write_text(self.run.folder / "features.test.csv", csv_text(rows, ("stage", "task", "language")))
        if len(self._means) == 2:
            save_figures(self.run, {"features.test": partial(stage_curves, self._means, self.percent)})


def evaluated_text(example: Any) -> str:
    """Return the text that an example is about, with its right answer.

    Example:
        >>> from mlprune.evaluation.tasks.candidate_example import CandidateExample
        >>> evaluated_text(CandidateExample("0", ("It is bad", "It is good"), ("-", "+"), label=1))
        'It is good'
    """
    if hasattr(example, "candidates"):
        return str(example.candidates[example.label])
    if hasattr(example, "reference"):
        return f"{example.source}\n{example.reference}"
    return str(example.text)
