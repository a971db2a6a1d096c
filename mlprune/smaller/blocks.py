"""Leaving out whole blocks: a model of less depth, as an ordinary checkpoint."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from mlprune.errors import UserError
from mlprune.files import whole_folder, write_json
from mlprune.models.blocks import find_blocks
from mlprune.models.card import CARD, Facts
from mlprune.models.checkpoint import read_checkpoint
from mlprune.models.folder import CONFIG, copy_rest, read_object
from mlprune.models.loading import ModelSource
from mlprune.models.probe import patched_forwards
from mlprune.models.saving import check_disk
from mlprune.models.shards import Entry
from mlprune.smaller.base import refuse_pruned
from mlprune.smaller.card import shallower_card
from mlprune.smaller.cutting import Cuts
from mlprune.smaller.depth import Stack, new_names, shortened, stacks_without
from mlprune.smaller.sameness import probe_logits

FACTS = "blocks.json"
PERIOD = re.compile(r"_?sliding_window_pattern")  # of kinds of blocks, where older versions have no layer_types


@dataclass(frozen=True)
class Shallower:
    """What leaving out blocks did.

    Args:
        folder: The smaller model.
        removed: Paths of the blocks that went, as they were in the original.
        num_blocks: How many blocks the original has.
        num_parameters: Numbers in the checkpoint, before and after.
        num_bytes: Their size, before and after.
    """

    folder: Path
    removed: list[str]
    num_blocks: int
    num_parameters: tuple[int, int]
    num_bytes: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        """Return the content of blocks.json."""
        blocks = (self.num_blocks, self.num_blocks - len(self.removed))
        sizes = {"blocks": blocks, "parameters": self.num_parameters, "bytes": self.num_bytes}
        return {
            "schema_version": 1,
            "removed": self.removed,
            **{name: {"before": before, "after": after} for name, (before, after) in sizes.items()},
        }


def remove_blocks(
    model: ModelSource | str,
    target: str | Path,
    removed: Sequence[str],
    facts: Mapping[str, Any] = {},
    describe: Callable[[Path], None] | None = None,
) -> Shallower:
    """Write a model without some of its blocks, which plain transformers loads.

    Its logits are those of the original with these blocks skipped; that is seen on a few tokens before the folder gets
    its name. Weights are copied tensor by tensor: heads stay tied or not, dtypes as they are. Cost: that look loads
    both models, one after the other.

    Args:
        model: The model, or its name.
        target: New folder.
        removed: Paths of the blocks, such as ``model.layers.12``;
            :func:`mlprune.analysis.influence.block_influence` measures which have the least influence.
        facts: What else blocks.json says.
        describe: Adds to the folder before it gets its name.

    Raises:
        UserError: If a path is none of a block, the model is quantized or pruned, its configuration cannot describe it
            without these blocks, or a file cannot be written.

    Example:
        >>> import tempfile
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sizes = {"n_layer": 3, "n_head": 1, "n_embd": 4, "vocab_size": 8, "bos_token_id": 1, "eos_token_id": 1}
        ...     GPT2LMHeadModel(GPT2Config(**sizes)).save_pretrained(f"{folder}/whole")
        ...     _ = remove_blocks(f"{folder}/whole", f"{folder}/shallower", ["transformer.h.1"])
        ...     GPT2LMHeadModel.from_pretrained(f"{folder}/shallower").config.n_layer
        2
    """
    source = ModelSource(model) if isinstance(model, str) else model
    config, stacks = check_removable(source, removed)
    checkpoint, blocks = source.checkpoint, find_blocks(source.checkpoint.skeleton)
    names = new_names(checkpoint, stacks)
    reader = checkpoint.reader.selected(names)
    sizes = [_size(one.entries.values()) for one in (checkpoint.reader, reader)]
    check_disk(Path(target).parent, sizes[1][1], "choose a folder on another disk")
    gone = [block.path for block in blocks if block.path in removed]
    done = Shallower(Path(target), gone, len(blocks), *zip(*sizes, strict=True))
    expected = _logits(source, gone)
    with whole_folder(target) as partial:
        _write_config(config, partial)
        Cuts().write(reader, partial)
        copy_rest(checkpoint.folder, partial, (CONFIG, CARD, FACTS))
        read_checkpoint(partial, source.trust_remote_code)  # fits its configuration
        found = _logits(replace(source, name=str(partial), revision=None), [])
        if not torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())):
            raise UserError(
                f"{type(checkpoint.skeleton).__name__}: without {', '.join(gone)} its logits are not those of the "
                "whole model with these skipped; its blocks depend on their positions, and none can be left out"
            )
        base = source.card()
        write_json(partial / FACTS, {**source.base(), **done.to_json(), **facts})
        shallower_card(partial, Facts(base, source.has_encoder()), gone, len(blocks))
        if describe is not None:
            describe(partial)
    return done


def check_removable(source: ModelSource, removed: Sequence[str]) -> tuple[PreTrainedConfig, list[Stack]]:
    """Return the configuration of a model without some blocks, and what stays of its stacks; no weight is read.

    Raises:
        UserError: As :func:`remove_blocks`.
    """
    checkpoint = source.checkpoint
    if checkpoint.is_quantized:
        raise UserError(f"'{checkpoint.folder}' holds quantized weights; give the model they were made of")
    refuse_pruned(source, "blocks")
    stacks = stacks_without(find_blocks(checkpoint.skeleton), removed)
    return shortened(checkpoint, stacks), stacks


def _size(entries: Iterable[Entry]) -> tuple[int, int]:
    """Numbers and bytes."""
    numbers = [(math.prod(entry.shape), entry.end - entry.start) for entry in entries]
    return sum(count for count, _ in numbers), sum(size for _, size in numbers)


def _logits(source: ModelSource, skipped: Sequence[str]) -> Tensor:
    model = source.load_model()
    with skipping(model, skipped):
        return probe_logits(model)


@contextmanager
def skipping(model: PreTrainedModel, paths: Iterable[str]) -> Iterator[None]:
    """While open, some blocks of a model pass on what they are given.

    Args:
        model: The model.
        paths: Paths of the blocks.
    """

    def passing(original: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            hidden = (kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]).clone()
            output = original(*args, **kwargs)  # later blocks may need what else it returns
            return hidden if isinstance(output, Tensor) else (hidden, *output[1:])

        return forward

    modules = [model.get_submodule(path) for path in paths]
    with patched_forwards({module: passing(module.forward) for module in modules}):
        yield


def _write_config(config: PreTrainedConfig, folder: Path) -> None:
    """Write the configuration; where it lists the kinds of blocks, a period of them says nothing more, or wrong."""
    config.save_pretrained(folder)
    write_json(folder / CONFIG, _without_period(read_object(folder / CONFIG)))


def _without_period(content: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in content.items() if not (PERIOD.fullmatch(name) and "layer_types" in content)}
    return {name: _without_period(value) if isinstance(value, Mapping) else value for name, value in kept.items()}
