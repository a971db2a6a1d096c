"""Narrowing: a model with fewer attention heads and feed-forward units in every layer."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlprune.errors import UserError
from mlprune.files import whole_folder, write_json
from mlprune.models.card import CARD, Facts
from mlprune.models.changed import changed_config
from mlprune.models.conversion import Conversion
from mlprune.models.folder import CONFIG, copy_rest
from mlprune.models.loading import ModelSource
from mlprune.models.saving import check_disk
from mlprune.models.widths import Kind
from mlprune.pruning import Importance
from mlprune.pruning.batches import listed
from mlprune.pruning.prune import form_batches
from mlprune.pruning.statistics import groups_of
from mlprune.smaller.base import refuse_pruned
from mlprune.smaller.card import narrowed_card
from mlprune.smaller.cutting import Cuts, stored_name
from mlprune.smaller.plan import Narrowing, narrowing
from mlprune.smaller.sameness import check_same
from mlprune.smaller.units import Choice, choose

FACTS, REPORT = "narrow.json", "narrow.md"
WHAT = "heads and units"


@dataclass(frozen=True)
class Narrowed:
    """What narrowing a model did.

    Args:
        folder: The narrower model.
        widths: Field of the configuration to its value, before and after.
        num_parameters: Numbers in the checkpoint, before and after.
        num_bytes: Their size, before and after.
        kept: Path of each layer that reads units or heads to those that stay, in the original's numbers.
        compensated: Paths of the layers whose bias took over the mean of what went.
    """

    folder: Path
    widths: dict[str, tuple[int, int]]
    num_parameters: tuple[int, int]
    num_bytes: tuple[int, int]
    kept: dict[str, dict[Kind, list[int]]]
    compensated: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return the content of narrow.json."""
        sizes = {"parameters": self.num_parameters, "bytes": self.num_bytes}
        return {
            "schema_version": 1,
            "widths": _before_after(self.widths),
            **_before_after(sizes),
            "kept": self.kept,
            "compensated": self.compensated,
        }


def _before_after(numbers: Mapping[str, tuple[int, int]]) -> dict[str, dict[str, int]]:
    return {name: {"before": before, "after": after} for name, (before, after) in numbers.items()}


def narrow(
    model: ModelSource | str,
    target: str | Path,
    batches: Iterable[Mapping[str, Any]] = (),
    units: float = 0.0,
    heads: int = 0,
    whole_groups: bool = False,
    importance: Importance | None = None,
    compensate: bool = True,
    add_biases: bool = False,
    multiple_of: int = 1,
    max_batch_tokens: int = 2048,
) -> Narrowed:
    """Write a model with fewer attention heads and feed-forward units, equally many fewer in every layer.

    The result is an ordinary, smaller checkpoint. It gives what the whole model gives without what was removed: this
    is checked on a few tokens. The tokenizer is the same.

    Args:
        model: The model, or its name.
        target: New folder, an ordinary Hugging Face checkpoint; it appears only when complete.
        batches: Calibration batches, as for :func:`mlprune.pruning.prune_model`.
        units: Share of every layer's feed-forward units that goes, rounded down.
        heads: Query heads of every layer that go, equally many of each key-value head.
        whole_groups: Let key-value heads go with all their query heads instead.
        importance: How weights are scored; a head or unit has the norm of the scores of the weights that read it. FLAP
            if omitted.
        compensate: Add the mean output of what goes to the bias of the layer that reads it, where it has one.
        add_biases: Give these layers a bias where the configuration has a switch for it (``attention_bias``,
            ``mlp_bias``).
        multiple_of: Round the number of units that stay up to a multiple, as some hardware likes it.
        max_batch_tokens: Token budget of a calibration batch.

    Raises:
        UserError: If the model's configuration cannot describe it with other widths, a setting does not fit it, it is
            pruned already, or there is nothing to calibrate on.

    Example:
        >>> import tempfile
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     LlamaForCausalLM(LlamaConfig(vocab_size=8, **sizes)).save_pretrained(f"{folder}/whole")
        ...     prompts = [{"input_ids": torch.tensor([[3, 1, 4, 1, 5]])}]
        ...     found = narrow(f"{folder}/whole", f"{folder}/narrow", prompts, units=0.25, heads=1)
        >>> found.widths
        {'intermediate_size': (16, 12), 'num_attention_heads': (2, 1), 'num_key_value_heads': (2, 1)}
    """
    source = ModelSource(model) if isinstance(model, str) else model
    refuse_pruned(source, WHAT)
    widths = {"units": units, "heads": heads, "whole_groups": whole_groups, "multiple_of": multiple_of}
    chosen = narrowing(source.checkpoint, importance, compensate, add_biases, **widths)
    given = listed(batches)
    if chosen.needs is not None and not given:
        raise UserError("heads and units are scored on calibration batches; none were given")
    loaded = source.load_model()
    formed = form_batches(loaded, given, max_batch_tokens, chosen.needs) if given else []
    choice = choose(loaded, formed, chosen, groups_of(given))
    del loaded
    return write_narrowed(source, Path(target), chosen, choice)


def write_narrowed(
    source: ModelSource,
    target: Path,
    chosen: Narrowing,
    choice: Choice,
    describe: Callable[[Path], None] | None = None,
) -> Narrowed:
    """Write the narrower model.

    Args:
        source: The whole model.
        target: New folder; it appears only when complete.
        chosen: What becomes of it.
        choice: Which heads and units stay.
        describe: Writes what else is to be in the folder before it has its name.

    Raises:
        UserError: If the target exists or cannot be written, or the narrower model does not give what the whole one
            gives without what was removed.
    """
    checkpoint = chosen.checkpoint
    cuts = cuts_of(chosen, choice)
    parameters, num_bytes = cuts.sizes(checkpoint.reader)
    check_disk(target.parent, num_bytes[1], "choose a folder on another disk")
    kept = {path: {kind: index.tolist() for kind, index in items.items()} for path, items in choice.kept.items()}
    widths = {
        field: (planned.width.counts[kind], planned.after[kind])
        for planned in chosen.planned
        for field, kind in planned.width.fields.items()
    }
    narrowed = Narrowed(target, widths, parameters, num_bytes, kept, list(choice.biases))
    with whole_folder(target) as partial:
        changed_config(checkpoint, chosen.changes).save_pretrained(partial)
        cuts.write(checkpoint.reader, partial)
        copy_rest(checkpoint.folder, partial, (CONFIG, CARD, FACTS, REPORT))
        check_same(source, partial, choice.expected)
        scored = {"importance": type(chosen.importance).__name__, "groups": list(chosen.importance.groups)}
        write_json(partial / FACTS, {**source.base(), **narrowed.to_json(), **scored})
        narrowed_card(partial, Facts(source.card(), source.has_encoder()), narrowed.widths)
        if describe is not None:
            describe(partial)
    return narrowed


def cuts_of(chosen: Narrowing, choice: Choice) -> Cuts:
    """Return what of the checkpoint's tensors stays, and their new biases."""
    checkpoint = chosen.checkpoint
    entries, conversion = checkpoint.reader.entries, Conversion(checkpoint.skeleton, checkpoint.reader.entries)
    parts: dict[str, list[tuple[int, Tensor]]] = {}
    for planned in chosen.planned:
        for site in planned.width.sites:
            for follower in site.followers:
                index = follower.index(planned.width.counts, choice.kept[site.reader.path])
                parts.setdefault(stored_name(conversion, follower.name), []).append((follower.dim, index))
    added = {
        stored_name(conversion, f"{path}.bias"): bias
        for path, bias in choice.biases.items()
        if f"{path}.bias" not in chosen.biases
    }
    cuts = Cuts(parts, added)
    new = {}
    for name in chosen.biases:
        path = name.removesuffix(".bias")
        weight = stored_name(conversion, f"{path}.weight")
        entry = entries[weight]
        values = choice.biases.get(path, torch.zeros(cuts.shape(weight, entry)[0]))
        new[f"{weight.removesuffix('.weight')}.bias"] = (entry.file, values.to(entry.dtype))
    return Cuts(parts, added, new)
