"""What is left of a model without some of its blocks: its configuration, and the new names of its tensors.

Nothing here knows an architecture. The configuration's number of blocks is the one that takes blocks from the stack
when it is lowered; lists with an entry a block lose those of the blocks that go. Whether this describes the blocks that
stay is seen by building both models without weights and comparing them part by part.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from mlprune.errors import UserError, reason_of
from mlprune.models.blocks import Block, find_blocks
from mlprune.models.changed import built_from
from mlprune.models.checkpoint import Checkpoint
from mlprune.models.conversion import Conversion
from mlprune.smaller.config_ids import KEY as TOKENS

PER_BLOCK = re.compile(r".*(pattern|layer|block).*")  # keys of texts with a letter a block
POSITIONS = re.compile(r".*(layers|blocks|idxs?|index(es)?|indices|layer_ids)")  # keys of lists of positions of blocks
FIRST = re.compile(r"first_k_dense_replace|num_dense_layers")  # how many of the first blocks are of another kind
CLASS = "class of"
SIMPLE = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class Stack:
    """The blocks of one stack that stay.

    Args:
        path: Path of the list they stand in.
        size: How many there are.
        kept: Positions of those that stay.
    """

    path: str
    size: int
    kept: list[int]


def stacks_without(blocks: Sequence[Block], removed: Sequence[str]) -> list[Stack]:
    """Return what is left of each stack.

    Args:
        blocks: All blocks of the model.
        removed: Paths of the blocks to be left out.

    Raises:
        UserError: If a path is none of a block, or no block of a stack would stay.
    """
    paths = [block.path for block in blocks]
    if unknown := [path for path in removed if path not in paths]:
        raise UserError(f"'{unknown[0]}' is no block; they are {paths[0]} to {paths[-1]}")
    found = []
    for stack in dict.fromkeys(block.stack for block in blocks):
        inside = [block.path for block in blocks if block.stack == stack]
        kept = [place for place, path in enumerate(inside) if path not in removed]
        if not kept:
            raise UserError(f"no block of '{stack}' would stay; leave out fewer than {len(inside)}")
        found.append(Stack(stack, len(inside), kept))
    return found


def shortened(checkpoint: Checkpoint, stacks: Sequence[Stack]) -> PreTrainedConfig:
    """Return the configuration of a model without some blocks.

    Args:
        checkpoint: The model, of which no weight is read.
        stacks: What stays.

    Raises:
        UserError: If no configuration describes that.
    """
    config = checkpoint.config
    for stack in stacks:
        if len(stack.kept) < stack.size:
            config = _shorter(checkpoint, config, stack)
    before = {name: tensor.shape for name, tensor in _renamed(checkpoint.skeleton.state_dict(), _moves(stacks)).items()}
    after = {name: tensor.shape for name, tensor in _built(checkpoint, config).state_dict().items()}
    if wrong := [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]:
        raise _refusal(checkpoint, f"'{min(wrong)}', outside of its blocks, depends on their number")
    return config


def _shorter(checkpoint: Checkpoint, config: PreTrainedConfig, stack: Stack) -> PreTrainedConfig:
    """The configuration with fewer blocks in one stack, each that stays what it was."""
    old = _modules(checkpoint.skeleton, stack.path)
    reason = f"no number in it is that of the {stack.size} blocks of '{stack.path}'"
    for key in _numbers(config.to_dict(), stack.size):
        try:
            found: PreTrainedConfig = type(config).from_dict(_without(config.to_dict(), stack, key))
            new = _modules(_built(checkpoint, found), stack.path)
        except Exception as error:  # a number of something else; configurations raise what they like
            reason = reason_of(error)
            continue
        if len(new) == len(stack.kept):
            difference = _difference([old[place] for place in stack.kept], new, stack)
            if difference is None:
                return found
            raise _refusal(checkpoint, difference)
    raise _refusal(checkpoint, reason)


def _refusal(checkpoint: Checkpoint, reason: str) -> UserError:
    name = type(checkpoint.skeleton).__name__
    return UserError(f"{name}: its configuration cannot describe it without these blocks: {reason}")


def _built(checkpoint: Checkpoint, config: PreTrainedConfig) -> PreTrainedModel:
    return built_from(checkpoint, type(config).from_dict(config.to_dict()))


def _modules(model: PreTrainedModel, stack: str) -> list[nn.Module]:
    return [block.module for block in find_blocks(model) if block.stack == stack]


def _numbers(content: Mapping[str, Any], size: int) -> Iterator[tuple[str, ...]]:
    """Keys, from the outermost, of all numbers that may be that of a stack's blocks."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from ((str(name), *rest) for rest in _numbers(value, size))
        elif type(value) is int and value == size:
            yield (str(name),)


def _without(content: Mapping[str, Any], stack: Stack, key: Sequence[str]) -> dict[str, Any]:
    """A configuration's content without blocks, their number under a key, which says where lists of blocks are, too."""
    if len(key) > 1:
        return {**content, key[0]: _without(content[key[0]], stack, key[1:])}
    places = {old: new for new, old in enumerate(stack.kept)}
    found: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, list | tuple) and len(value) == stack.size and not TOKENS.fullmatch(name):
            found[name] = [value[place] for place in stack.kept]
        elif isinstance(value, str) and len(value) == stack.size and PER_BLOCK.fullmatch(name):
            found[name] = "".join(value[place] for place in stack.kept)
        elif isinstance(value, list) and POSITIONS.fullmatch(name) and set(value) <= set(range(stack.size)):
            found[name] = [places[place] for place in value if place in places]
        elif FIRST.fullmatch(name) and isinstance(value, int):
            found[name] = sum(place < value for place in stack.kept)
        else:
            found[name] = value
    if "attention_types" in found:  # GPT-Neo: what repeats, and how often
        found["attention_types"] = [[found["attention_layers"], 1]]
    return found | {key[0]: len(stack.kept)}


def _difference(old: Sequence[nn.Module], new: Sequence[nn.Module], stack: Stack) -> str | None:
    """Say what a block would be that it was not; its own position may change, their number, and lists of them all."""
    for place, (before, after) in enumerate(zip(map(_traits, old), map(_traits, new), strict=True)):
        for name in sorted(before.keys() | after.keys(), key=lambda name: (not name.startswith(CLASS), name)):
            old_value, new_value = before.get(name), after.get(name)
            if old_value != new_value and not _is_moved(old_value, new_value, place, stack):
                was = f"'{stack.path}.{stack.kept[place]}'"
                return f"what was {was} would have {name} {new_value!s:.40} in place of {old_value!s:.40}"
    return None


def _is_moved(old: Any, new: Any, place: int, stack: Stack) -> bool:
    """Whether two settings are a block's position, the number of blocks, or a list with an entry for each."""
    if isinstance(old, list) and len(old) == stack.size:
        return bool(new == [old[kept] for kept in stack.kept])
    moved = {(stack.kept[place], place), (stack.size, len(stack.kept))}
    return type(old) is type(new) is int and (old, new) in moved


def _traits(block: nn.Module) -> dict[str, Any]:
    """What a block is made of: classes and shapes of its parts, and their plain settings."""
    found: dict[str, Any] = {}
    for path, part in block.named_modules():
        found[f"{CLASS} {path or 'itself'}"] = type(part).__name__
        found |= {f"{path}.{name}".lstrip("."): value for name, value in vars(part).items() if _is_simple(value)}
    found |= {f"shape of {name}": tuple(tensor.shape) for name, tensor in block.state_dict().items()}
    return found


def _is_simple(value: Any) -> bool:
    return isinstance(value, SIMPLE) or (isinstance(value, list | tuple) and all(isinstance(v, SIMPLE) for v in value))


def _moves(stacks: Sequence[Stack]) -> dict[str, str | None]:
    """Prefix of a block's tensors to their new one; None for a block that goes."""
    return {
        f"{stack.path}.{place}.": f"{stack.path}.{stack.kept.index(place)}." if place in stack.kept else None
        for stack in stacks
        for place in range(stack.size)
    }


def _renamed(tensors: Mapping[str, Any], moves: Mapping[str, str | None]) -> dict[str, Any]:
    found = {}
    for name, value in tensors.items():
        prefix = next((prefix for prefix in moves if name.startswith(prefix)), "")
        new = moves.get(prefix, "")
        if new is not None:
            found[new + name.removeprefix(prefix)] = value
    return found


def new_names(checkpoint: Checkpoint, stacks: Sequence[Stack]) -> dict[str, str]:
    """Return each tensor's name in the checkpoint to its new one, without those of the blocks that go.

    Args:
        checkpoint: The model.
        stacks: What stays.
    """
    conversion = Conversion(checkpoint.skeleton, checkpoint.reader.entries)
    moves: dict[str, str | None] = {}
    for stack in stacks:
        stored = {
            place: [
                key
                for name in checkpoint.skeleton.state_dict()
                if name.startswith(f"{stack.path}.{place}.")
                for key in conversion.keys(name)
            ]
            for place in range(stack.size)
        }
        path = _stored_path(stored)
        moves |= _moves([Stack(path, stack.size, stack.kept)])
    names = {name: name for name in checkpoint.reader.entries}
    return {old: new for new, old in _renamed(names, moves).items()}


def _stored_path(stored: Mapping[int, Sequence[str]]) -> str:
    """The path of a stack in the names of a checkpoint, which are not always those of the model."""
    parts = stored[0][0].split(".")
    for place in (place for place, part in enumerate(parts) if part == "0"):
        path = ".".join(parts[:place])
        if all(key.startswith(f"{path}.{block}.") for block, keys in stored.items() for key in keys):
            return path
    raise UserError(f"the checkpoint's names do not say which block '{stored[0][0]}' belongs to")
