"""The weights with a row for each token."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from mlprune.errors import UserError
from mlprune.models.changed import built_from
from mlprune.models.checkpoint import Checkpoint
from mlprune.models.conversion import Conversion
from mlprune.models.encoder import has_encoder
from mlprune.smaller.config_ids import with_other_size

BUFFER = re.compile(r"(.*\.)?final_logits_bias")  # of BART's relatives, (1, V)
FURTHER = re.compile(r".*(embed_tokens|shared_head\.head|lm_head)\.weight")  # in layers that predict further tokens
OTHERS = re.compile(r"pos|wpe|type|relative", re.IGNORECASE)  # embeddings of something else


@dataclass(frozen=True)
class Tables:
    """Which tensors of a checkpoint have a row for each token.

    Args:
        dims: Name of a tensor to its dimension of tokens.
        rows: How many tokens the model knows.
    """

    dims: dict[str, int]
    rows: int


def tables_of(checkpoint: Checkpoint) -> Tables:
    """Find the weights with a row for each token: embeddings, output head, biases.

    Args:
        checkpoint: The checkpoint, of which only names and shapes are looked at.

    Raises:
        UserError: If the model is quantized, has more than one vocabulary, or a table whose meaning is not known, or
            its configuration does not say how many tokens it has.
    """
    if checkpoint.is_quantized:
        raise UserError(f"'{checkpoint.folder}' holds quantized weights; give the model they were made of")
    model, entries = checkpoint.skeleton, checkpoint.reader.entries
    rows = int(_weight(model.get_input_embeddings()).shape[0])
    names = _parameters(model, rows)
    _refuse_others(model, names, rows)
    _refuse_unknown_sizes(checkpoint, names, rows)
    conversion = Conversion(model, entries)
    dims = {key: dim for name, dim in names.items() for key in conversion.keys(name)}
    loaded = {key for name in model.state_dict() for key in conversion.keys(name)}
    dims |= {
        key: 0 for key in entries if key not in loaded and FURTHER.fullmatch(key) and entries[key].shape[0] == rows
    }
    for key, dim in dims.items():
        if entries[key].shape[dim] != rows:
            raise UserError(
                f"'{checkpoint.folder}': '{key}' has {entries[key].shape[dim]} rows and the input embedding {rows}; a "
                "model of two vocabularies cannot be trimmed"
            )
    return Tables(dims, rows)


def _weight(module: nn.Module) -> torch.Tensor:
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    return weight


def _parameters(model: PreTrainedModel, rows: int) -> dict[str, int]:
    """Names in the model to the dimension of tokens."""
    parts = [model, model.get_encoder(), model.get_decoder()] if has_encoder(model) else [model]
    owners = {id(found) for part in parts for found in _ends(part) if found is not None}
    names = {
        f"{path}.{name}": 0
        for path, module in model.named_modules()
        if id(module) in owners
        for name, parameter in module.named_parameters()
        if parameter.shape[0] == rows
    }
    tied = model.all_tied_weights_keys.items()
    names |= {name: 0 for pair in tied if names.keys() & set(pair) for name in pair}
    buffers = {name: tensor.dim() - 1 for name, tensor in model.named_buffers() if BUFFER.fullmatch(name)}
    return names | buffers


def _ends(model: nn.Module) -> Iterable[nn.Module | None]:
    for name in ("get_input_embeddings", "get_output_embeddings"):
        if hasattr(model, name):
            try:
                yield getattr(model, name)()
            except NotImplementedError:  # an encoder or decoder that is not asked for it elsewhere
                yield None


def _refuse_others(model: PreTrainedModel, names: dict[str, int], rows: int) -> None:
    """A large embedding of unknown meaning may be read by the same ids (Gemma 3n has one for each layer)."""
    for path, module in model.named_modules():
        if not isinstance(module, nn.Embedding) or f"{path}.weight" in names or OTHERS.search(path):
            continue
        if module.num_embeddings * 2 > rows:
            raise UserError(
                f"{type(model).__name__} has another embedding, '{path}' with {module.num_embeddings} rows, that ids "
                "may be read by; it cannot be trimmed"
            )


def _refuse_unknown_sizes(checkpoint: Checkpoint, names: dict[str, int], rows: int) -> None:
    """Built with one token more, the tables must be longer by one, and everything else as it is."""
    built = built_from(checkpoint, with_other_size(checkpoint.config, rows, rows + 1)).state_dict()
    for name, tensor in checkpoint.skeleton.state_dict().items():
        shape, found = list(tensor.shape), list(built[name].shape) if name in built else []
        if name in names:
            shape[names[name]] += 1
        if shape != found:
            raise UserError(
                f"{type(checkpoint.skeleton).__name__}: how '{name}' {tuple(tensor.shape)} depends on the number of "
                "tokens is not known; it cannot be trimmed"
            )


def counts_from_pad(model: PreTrainedModel, tables: Tables) -> bool:
    """Tell whether a model's positions are counted from the id of padding, which then has to stay.

    The table of positions has that id; whole models that merely note it, as Llama does, do not count.
    """
    of_tokens = {name.rpartition(".")[0] for name in _parameters(model, tables.rows)}
    return any(
        getattr(module, "padding_idx", None) is not None and path not in of_tokens and not any(module.children())
        for path, module in model.named_modules()
    )
