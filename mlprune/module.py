"""The LightningModule: gathers activation statistics in validation, evaluates in test, trains for recovery in fit."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, Protocol

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.comparison import read_figures
from mlprune.datamodule import PruningDataModule
from mlprune.distributed import gather_objects, meet
from mlprune.evaluation.batch import EvaluationBatch
from mlprune.evaluation.recheck import recheck_all
from mlprune.evaluation.results import summarize
from mlprune.interventions import Intervention
from mlprune.models.blocks import find_blocks
from mlprune.models.layers import Layer
from mlprune.models.loading import ModelSource
from mlprune.models.lora import add_lora, check_lora, merge_lora
from mlprune.models.sharding import Sharded
from mlprune.models.split import split_of
from mlprune.models.split_checkpoint import SplitCheckpoint
from mlprune.smaller import Reduction

Record = dict[str, Any]


class Step(Protocol):
    """One batch of validation: a block to be calibrated, or a model whose features are measured."""

    def gather(self) -> None:
        """Show it all calibration batches of this process, so that what is measured adds up."""


def adamw(parameters: Any) -> torch.optim.Optimizer:
    """The default optimizer of recovery training."""
    return torch.optim.AdamW(parameters, lr=1e-5)


class PruningModule(LightningModule):
    """A multilingual language model that is calibrated, evaluated and optionally trained.

    Args:
        name: Hub id, local folder, or ``demo`` for the packaged Gemma 3 270M.
        dtype: ``auto`` (as stored), ``float32``, ``bfloat16``, ``float16`` or ``float64``.
        revision: Commit, tag or branch of a hub repository.
        attn_implementation: Attention as transformers names it, such as ``sdpa`` or ``eager``.
        trust_remote_code: Run code from the model's repository; off by default.
        tokenizer_options: Further arguments of ``AutoTokenizer.from_pretrained``.
        optimizer: Optimizer of recovery training (``fit`` with ``trainer.max_epochs`` above 0).
        interventions: What changes activations while the model is evaluated, such as
            :class:`mlprune.interventions.FeatureAblation`.
        recheck: Of a bfloat16 or float16 model, score answers within the noise of its dtype again in float32, where
            there is memory for it.
        lora: Arguments of ``peft.LoraConfig``, such as ``{r: 8}``: recovery training learns low-rank adapters instead
            of all weights; they are merged at its end, and the masks applied again.
        smaller: Steps that ``fit`` takes first, which make the model smaller, such as
            :class:`mlprune.smaller.TrimVocabulary`.
    """

    def __init__(
        self,
        name: str,
        dtype: str = "auto",
        revision: str | None = None,
        attn_implementation: str | None = None,
        trust_remote_code: bool = False,
        tokenizer_options: dict[str, Any] | None = None,
        optimizer: OptimizerCallable = adamw,
        lora: dict[str, Any] | None = None,
        interventions: list[Intervention] | None = None,
        smaller: list[Reduction] | None = None,
        recheck: bool = True,
    ) -> None:
        super().__init__()
        self.source = ModelSource(
            name, dtype, revision, attn_implementation, trust_remote_code, dict(tokenizer_options or {})
        )
        check_lora(lora)
        self.optimizer = optimizer
        self.lora = lora
        self.interventions = list(interventions or [])
        self.smaller = list(smaller or [])
        self.given = self.source  # which steps of model.smaller replace
        self.recheck = recheck
        self._intervened = ExitStack()
        self.model: PreTrainedModel | None = None
        self.masks: dict[str, Tensor] = {}
        self.recipe: dict[str, Any] = self.source.recipe()
        self.results: dict[str, Any] = {}
        self.records: dict[tuple[str, str], list[Record]] = {}
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self.split: SplitCheckpoint | None = None  # whose model this is, where weights are split over processes
        self._sharded: Sharded | None = None  # the same, while it trains
        self._placed: dict[str, Tensor] = {}  # masks where the weights lie, while it trains: a copy a step would wait

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer, loaded on first use."""
        if self._tokenizer is None:
            self._tokenizer = self.source.load_tokenizer()
        return self._tokenizer

    @property
    def pruning_stage(self) -> str:
        """``pruned`` once masks are applied or the checkpoint says so, else ``dense``."""
        return "pruned" if self.recipe else "dense"

    @property
    def system(self) -> str:
        """What tables call the model: ``dense``, ``pruned``, or ``trained`` if it was trained after it was pruned."""
        return "trained" if self.recipe.get("trained") else self.pruning_stage

    def configure_model(self) -> None:
        """Load the weights, once, when Lightning is ready for them; for recovery training make them ready to train."""
        strategy = self.trainer.strategy
        if isinstance(strategy, ModelParallelStrategy) and self.model is None:
            checkpoint, dtype = self.source.checkpoint, self.source.dtype
            self.split = SplitCheckpoint(checkpoint, dtype, strategy.root_device, strategy._timeout)
            self.use_streamed(self.split.model)
        self.load()
        if self.trainer.state.fn == "fit":
            self._begin_training()

    def load(self) -> None:
        """Load the weights, once."""
        if self.model is None:
            self.model = self.source.load_model()

    def unload(self) -> None:
        """Free the memory of weights that :meth:`load` can load again."""
        if self.split is not None:
            self.split.split.close()
        self.model = self.split = None

    def use_source(self, source: ModelSource) -> None:
        """Use another model in place of the one that was given, before its weights are loaded."""
        assert self.model is None
        self.source, self._tokenizer, self.recipe = source, None, source.recipe()

    def use_streamed(self, model: PreTrainedModel) -> None:
        """Use a model whose blocks are whole only when they are needed; Lightning must not try to move it."""
        self._modules.pop("model", None)
        self.__dict__["model"] = model  # not a submodule

    def mark_pruned(self, recipe: dict[str, Any], masks: Mapping[str, Tensor] | None = None) -> None:
        """Record how the weights were pruned.

        Args:
            recipe: What mlprune.json says of it; empty for a model that is dense again.
            masks: Layer path to mask, True = kept; those known before if omitted.
        """
        self.recipe = recipe
        self.masks = self.masks if masks is None else dict(masks)
        self._placed = {}

    # -- validate: calibration ------------------------------------------------------------------------------------

    def validation_step(self, batch: Step, batch_idx: int) -> None:
        """Show one block all calibration batches; statistics of its layers add up, and a callback masks them."""
        with self._in_model_dtype():
            batch.gather()
        meet()  # Lightning waits in ways of its own

    def _in_model_dtype(self) -> AbstractContextManager[None]:
        """The trainer's mixed precision is for training: what is measured is the model in its dtype."""
        is_mixed = str(self.trainer.precision).endswith("-mixed")
        return torch.autocast(self.device.type, enabled=False) if is_mixed else nullcontext()

    # -- test: evaluation -----------------------------------------------------------------------------------------

    def add_intervention(self, intervention: Intervention) -> None:
        """Evaluate under one more intervention, if it is not there."""
        if intervention not in self.interventions:
            self.interventions.append(intervention)

    def intervene(self, interventions: list[Intervention]) -> None:
        """Evaluate under these interventions, and no other."""
        self.interventions = list(interventions)

    def end_interventions(self) -> None:
        """Leave the model as it was before the evaluation, also if that failed."""
        self._intervened.close()

    @property
    def _data(self) -> PruningDataModule:
        data: PruningDataModule = vars(self.trainer)["datamodule"]  # which Lightning sets without declaring it
        return data

    def on_test_start(self) -> None:
        """Start every task and language without records, on every process."""
        tasks = self._data.tasks
        self.records = {(task.name, lang): [] for task in tasks for lang in task.languages}
        for intervention in self.interventions:
            assert self.model is not None
            self._intervened.enter_context(intervention.applied(self.model))

    def test_step(self, batch: EvaluationBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Predict one batch of examples of one task and language, unless an earlier start of the run has."""
        assert self.model is not None
        if not batch.examples:
            return
        if batch.records is None:
            with self._in_model_dtype():
                predicted = batch.task.predict(self.model, self.tokenizer, batch.lang, batch.examples)
            batch.records = [
                {"position": position, **record} for position, record in zip(batch.positions, predicted, strict=True)
            ]
        key = (batch.task.name, batch.lang)
        self.records[key].extend(batch.records)

    def on_test_epoch_end(self) -> None:
        """Gather all records, measure them, log the figures as ``stage/task/language/metric``, and keep the results."""
        data = self._data
        self.records = {key: self._gathered(records) for key, records in self.records.items()}
        rechecked = self._recheck(data) if self.recheck else {}
        self.results = summarize(data.tasks, self.records, self.system, data.seed)
        self.results |= {"rechecked": rechecked} if rechecked else {}
        found = {
            type(intervention).__name__: section
            for intervention in self.interventions
            if (section := intervention.results())
        }
        self.results |= {"interventions": found} if found else {}
        figures = scalars(self.pruning_stage, self.results)
        self.log_dict(figures, rank_zero_only=False, sync_dist=False, logger=False)  # callbacks know under which names

    def _recheck(self, data: PruningDataModule) -> dict[str, Any]:
        """Score again in float32 what a narrow dtype may have decided, and return what came of it."""
        assert self.model is not None
        tasks = {task.name: task for task in data.tasks}
        examples = {name: data.examples(task) for name, task in tasks.items()}
        return recheck_all(self.model, self.tokenizer, tasks, examples, self.records, data.max_batch_chars)

    def _gathered(self, records: list[Record]) -> list[Record]:
        """All processes' records in the order of the corpus."""
        ordered = sorted(
            (record for part in gather_objects(records) for record in part), key=lambda record: record["position"]
        )
        return [{name: value for name, value in record.items() if name != "position"} for record in ordered]

    # -- fit: recovery training -----------------------------------------------------------------------------------

    def _begin_training(self) -> None:
        """Put the model in training mode, with adapters and split weights before the optimizer is made."""
        assert self.model is not None
        if not self.masks:  # the checkpoint was pruned before, and its zeros are to stay
            self.masks = {path: layer.matrix() != 0 for path, layer in self._layers() if path in self.recipe["layers"]}
        if self.lora is not None:
            self.model = add_lora(self.model if self.split is None else self.split.join(), self.lora)
        self.model.train()
        if isinstance(self.trainer.strategy, ModelParallelStrategy):
            assert self.device_mesh is not None
            mesh = self.device_mesh["data_parallel"]
            if self.split is None or self.lora is not None:  # it is whole
                self._sharded = Sharded(self.model, mesh)
            else:
                self._sharded = self.split.shard(mesh)
            self.model = self.model  # a submodule from now on, which the strategy and the optimizer see

    def end_training(self) -> None:
        """Make a plain model of the trained one: adapters merged, pruned weights at zero, split as it was before."""
        assert self.model is not None
        sharded, self._sharded = self._sharded, None
        self._placed = {}
        if sharded is not None and self.split is not None and self.lora is None:
            plain = sharded.fill_rest().eval()
            self.split.resume(plain, sharded.fill)
            self.use_streamed(plain)
            return  # its zeros were held after every step
        self.model = self.model if sharded is None else sharded.whole()
        self.model = (self.model if self.lora is None else merge_lora(self.model)).eval()
        self.hold_masks()
        if self.split is not None:
            self.split.resume(self.model)
            self.use_streamed(self.model)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, and set the pruned weights back to zero at once."""
        super().optimizer_step(*args, **kwargs)
        if self.lora is None:  # adapters leave the weights as they are until they are merged
            if self._placed.keys() != self.masks.keys():
                self._placed = {
                    path: layer.placed(self.masks[path]) for path, layer in self._layers() if path in self.masks
                }
            self.hold_masks()

    @torch.no_grad()
    def hold_masks(self) -> None:
        """Set the pruned weights to zero."""
        layers = dict(self._layers())
        for path, mask in (self._placed or self.masks).items():
            layers[path].zero(mask)

    def _layers(self) -> Iterable[tuple[str, Layer]]:
        """Every layer with its path, one block after the other; a block of split weights is whole in its turn."""
        assert self.model is not None
        split = split_of(self.model)
        for position, block in enumerate(find_blocks(self.model)):
            if split is not None:
                split.enter(position)
            yield from block.layers.items()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the masks in Lightning checkpoints, so that a resumed training still holds them."""
        checkpoint["mlprune_masks"] = self.masks

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the masks from a Lightning checkpoint."""
        self.masks, self._placed = checkpoint.get("mlprune_masks", self.masks), {}

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Causal language modelling loss on one batch of demonstrations."""
        assert self.model is not None
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        output = self.model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels, use_cache=False
        )
        self.log("fit/loss", output.loss, prog_bar=True, batch_size=len(labels))
        loss: Tensor = output.loss
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer of recovery training."""
        return self.optimizer(parameter for parameter in self.parameters() if parameter.requires_grad)


def scalars(stage: str, results: dict[str, Any]) -> dict[str, float]:
    """Flatten results into ``stage/task/language/metric``.

    Example:
        >>> scalars("dense", {"tasks": {"nli": {"fr": {"accuracy": 0.5, "n": 2}}}})
        {'dense/nli/fr/accuracy': 0.5}
    """
    return {
        f"{stage}/{row.task}/{row.language}/{row.measure.name}": row.value
        for row in read_figures(results)
        if row.value is not None
    }
