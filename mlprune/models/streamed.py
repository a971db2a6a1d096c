"""A model whose blocks are in memory only while they are needed: read from the shards, pruned, written to new shards.

The rest of the model is read when its forward is first called, so an output head that calibration never reaches is
never resident.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.core_model_loading import build_glob_alternation
from transformers.initialization import no_init_weights

from mlprune.errors import UserError
from mlprune.files import new_folder, writing
from mlprune.models.blocks import Block, find_blocks, look_at, undecided
from mlprune.models.checkpoint import Checkpoint, read_checkpoint
from mlprune.models.config import auto_class
from mlprune.models.conversion import Conversion
from mlprune.models.folder import copy_rest, read_object, weights_file, write_index
from mlprune.models.integrity import not_finite
from mlprune.models.saving import check_disk
from mlprune.models.shards import ShardWriter, is_finite
from mlprune.models.skeleton import registering


def parameters_on_meta() -> AbstractContextManager[None]:
    """Build modules whose parameters take no memory, while their buffers are computed as always."""
    return registering(lambda parameter: None if parameter is None else _on_meta(parameter))


def _on_meta(parameter: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(parameter.detach().to("meta"), requires_grad=False)


class StreamedModel:
    """A transformers model over a checkpoint folder, with at most a few blocks in memory.

    Call :meth:`enter` before a block is used, :meth:`write` when it is pruned, and :meth:`finish` at the end.

    Args:
        source: Checkpoint folder with safetensors, or a checkpoint that was read.
        target: Folder of the pruned checkpoint; it appears only when complete. None writes nothing, as every process
            but the first must.
        dtype: ``auto`` (as config.json says) or a torch dtype's name.
        device: Where blocks and hidden states are.

    Raises:
        UserError: If the folder does not fit, or the target exists or has too little room.
    """

    def __init__(
        self,
        source: str | Path | Checkpoint,
        target: str | Path | None = None,
        dtype: str = "auto",
        device: torch.device | str = "cpu",
    ) -> None:
        checkpoint = source if isinstance(source, Checkpoint) else read_checkpoint(source)
        if checkpoint.is_quantized:
            raise UserError(
                f"streaming: '{checkpoint.folder}' holds quantized weights; give the model they were made of"
            )
        self.reader = checkpoint.reader
        chosen = getattr(torch, dtype) if dtype != "auto" else checkpoint.dtype
        with parameters_on_meta(), no_init_weights():
            self.model: PreTrainedModel = auto_class(checkpoint.config).from_config(
                checkpoint.config, dtype=chosen, **checkpoint.options
            )
        self.model.eval()
        checkpoint.set_generation(self.model)
        self.model.tie_weights()
        self._untie()
        self.dtype = chosen
        self.device = torch.device(device)
        self._keep_in_float32()
        self._move_buffers()
        self.blocks: list[Block] = find_blocks(self.model)
        self._slots = self._find_slots()
        self._conversion = Conversion(self.model, self.reader.entries)
        self._load_buffers()
        self._in_blocks = [self._names_below(block.path) for block in self.blocks]
        self._check_names()
        self._check_finite()
        self._resident: set[int] = set()
        self._handles = self._load_on_call()
        if undecided(self.blocks):
            look_at(self.model, self.blocks)
            self.blocks = find_blocks(self.model)
        self.target: Path | None = None
        self.writer: ShardWriter | None = None
        if target is not None:
            self.open(Path(target))

    def _untie(self) -> None:
        """Hold weights apart that config.json ties and the file has different values of, as loading does."""
        for name, source in self.model.all_tied_weights_keys.items():
            stored, tied = self._stored_name(name), self._stored_name(source)
            if stored and tied and not self.reader.equal(stored, tied):
                path, _, slot = name.rpartition(".")
                module = self.model.get_submodule(path)
                setattr(module, slot, _on_meta(getattr(module, slot)))

    def _keep_in_float32(self) -> None:
        """Give that dtype to what the architecture wants in it, as loading into memory does."""
        plan = self.model._get_dtype_plan(self.dtype)
        if not plan:
            return
        kept = build_glob_alternation(list(plan))[0]
        for name, tensor in self.model.state_dict(keep_vars=True).items():
            if kept.search(name):
                tensor.data = tensor.data.float()

    def _move_buffers(self) -> None:
        """Parameters are moved as they are read; until then they have no data that could be."""
        for module in self.model.modules():
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.to(self.device))

    def _load_buffers(self) -> None:
        """Read what is learned and yet no parameter, such as corrections of a router; all of it is small."""
        for name, buffer in self.model.state_dict().items():
            if name not in self._slots:
                if stored := self._stored_name(name):
                    buffer.copy_(self.reader.read(stored))
                elif name in self._conversion:
                    buffer.copy_(self._conversion.read(name, self.reader))

    def _find_slots(self) -> dict[str, tuple[str, list[tuple[nn.Module, str]]]]:
        """Name of each parameter to its name in the checkpoint and the modules that hold it (several if tied)."""
        owners: dict[int, list[tuple[str, nn.Module, str]]] = {}
        for path, module in self.model.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                owners.setdefault(id(parameter), []).append((f"{path}.{name}" if path else name, module, name))
        slots = {}
        for group in owners.values():
            stored = next((found for name, _, _ in group if (found := self._stored_name(name))), "")
            for name, _, _ in group:
                slots[name] = (stored, [(module, slot) for _, module, slot in group])
        return slots

    def _stored_name(self, name: str) -> str | None:
        """A checkpoint of the bare model lacks the prefix that a model with a head has, and the other way round."""
        prefix = f"{self.model.base_model_prefix}."
        candidates = (name, name.removeprefix(prefix), f"{prefix}{name}")
        return next((candidate for candidate in candidates if candidate in self.reader.entries), None)

    def _keys(self, name: str) -> list[str]:
        """Names in the checkpoint of all that a tensor of the model is stored as."""
        stored = self._stored_name(name)
        return [stored] if stored else self._conversion.keys(name)

    def _names_below(self, path: str) -> list[str]:
        return [name for name in self._slots if name.startswith(f"{path}.")]

    def _check_names(self) -> None:
        for name in (name for names in self._in_blocks for name in names):
            if not self._slots[name][0] and name not in self._conversion:
                raise self._computed(name)
        for names in self._in_blocks:
            merged = {name: self.model.get_parameter(name) for name in self._merged(names)}
            for stored in self._conversion.stored(merged):
                if self._stored_name(stored) is None:
                    raise UserError(
                        f"streaming: '{self.reader.folder}' has no tensor '{stored}', in which '{names[0]}' would be "
                        "written; convert the checkpoint with from_pretrained and save_pretrained first"
                    )

    def _check_finite(self) -> None:
        """Look at the weights outside the blocks, some of which calibration never reaches."""
        below = {name for names in self._in_blocks for name in names}
        for name, (stored, slots) in self._slots.items():
            dtype = getattr(*slots[0]).dtype
            if name not in below and stored and dtype.is_floating_point and not self.reader.is_finite(stored, dtype):
                raise not_finite(name, self.reader.folder)

    def _computed(self, name: str) -> UserError:
        """A checkpoint that fits lacks a weight only if the architecture computes it."""
        return UserError(
            f"streaming: {type(self.model).__name__} computes '{name}', which '{self.reader.folder}' has not; set "
            "pruning.streaming: false"
        )

    def _merged(self, names: Iterable[str]) -> list[str]:
        """Those parameters that are stored under other names or in parts."""
        return [name for name in names if not self._slots[name][0]]

    def _load_on_call(self) -> list[Any]:
        """Let every module read its own parameters, or all of the block it is in, when it is first called.

        A block itself may be called without being run, by those who look at its arguments. The embeddings are read at
        once: their device is the model's, which is asked for before the model is called.
        """
        inside = {id(module): k for k, block in enumerate(self.blocks) for module in block.module.modules()}
        whole = {id(block.module) for block in self.blocks}
        embeddings = self.model.get_input_embeddings()
        first = [name for name, (_, slots) in self._slots.items() if any(module is embeddings for module, _ in slots)]
        self._load(first)
        handles = []
        for path, module in self.model.named_modules():
            names = [f"{path}.{name}" if path else name for name, _ in module.named_parameters(recurse=False)]
            if id(module) in inside.keys() - whole:
                load = partial(self._enter_late, inside[id(module)])
            elif names and id(module) not in inside:
                load = partial(self._load, names)
            else:
                continue
            handles.append(module.register_forward_pre_hook(lambda module, args, load=load: load()))
        return handles

    def _enter_late(self, block: int) -> None:
        if block not in self._resident:
            self.enter(block)

    def _load(self, names: Iterable[str]) -> None:
        for name in names:
            stored, slots = self._slots[name]
            module, slot = slots[0]
            if getattr(module, slot).device.type != "meta":
                continue
            if not stored and name not in self._conversion:
                raise self._computed(name)
            value = self.reader.read(stored) if stored else self._conversion.read(name, self.reader)
            value = value.to(self.device, getattr(module, slot).dtype)
            if value.is_floating_point() and not is_finite(value):
                raise not_finite(name, self.reader.folder)
            parameter = nn.Parameter(value, requires_grad=False)
            for module, slot in slots:
                setattr(module, slot, parameter)

    def _release(self, names: Iterable[str]) -> None:
        for name in names:
            _, slots = self._slots[name]
            empty = _on_meta(getattr(*slots[0]))
            for module, slot in slots:
                setattr(module, slot, empty)

    def enter(self, block: int) -> None:
        """Read a block if it is not in memory, and forget all but it and the one before."""
        for other in self._resident - {block, block - 1}:
            self._release(self._in_blocks[other])
        self._load(self._in_blocks[block])
        self._resident = (self._resident & {block - 1}) | {block}

    def write(self, block: int) -> None:
        """Write a block's tensors, as they are now, into the new shards."""
        if self.writer is not None:
            self._write(self.writer, self._in_blocks[block])

    def _write(self, writer: ShardWriter, names: list[str]) -> None:
        merged = self._merged(names)
        for name in names:
            if name not in merged:
                writer.write(self._slots[name][0], self.model.get_parameter(name))
        parts = self._conversion.stored({name: self.model.get_parameter(name) for name in merged}) if merged else {}
        for stored, tensor in parts.items():
            writer.write(self._stored_name(stored) or stored, tensor)

    def read_rest(self) -> None:
        """Read what is outside the blocks, and read nothing more by itself: the blocks' weights are kept elsewhere."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        for block in self._resident:
            self._release(self._in_blocks[block])
        self._resident = set()
        self._load(self._outside())

    def write_rest(self) -> None:
        """Write what is outside the blocks, as it is now; finishing copies what this has no tensor for."""
        if self.writer is not None:
            self._write(self.writer, [name for name in self._outside() if self._keys(name)])

    def _outside(self) -> list[str]:
        below = {name for names in self._in_blocks for name in names}
        return [name for name in self._slots if name not in below]

    def use(self, model: PreTrainedModel) -> None:
        """Write another model's weights, which has the same parameters."""
        self.model = model
        self.blocks = find_blocks(model)
        self._slots = self._find_slots()
        self._conversion = Conversion(model, self.reader.entries)

    def open(self, target: Path) -> None:
        """Begin to write a new folder.

        Args:
            target: The folder, which appears only when complete.

        Raises:
            UserError: If it exists or has too little room.
        """
        layout: dict[str, dict[str, tuple[torch.dtype, tuple[int, ...]]]] = {file: {} for file in self.reader.files}
        dtypes = {key: tensor.dtype for name, tensor in self.model.state_dict().items() for key in self._keys(name)}
        for name, entry in self.reader.entries.items():
            unused = self.dtype if entry.dtype.is_floating_point else entry.dtype
            layout[entry.file][name] = (dtypes.get(name, unused), entry.shape)
        tensors = [tensor for file in layout.values() for tensor in file.values()]
        check_disk(target.parent, sum(dtype.itemsize * torch.Size(shape).numel() for dtype, shape in tensors))
        self._partial = new_folder(target)
        try:
            self.writer = ShardWriter(self._partial.path, layout, self.reader.metadata)
        except UserError:
            self._partial.abandon()
            raise
        self.target = target

    def finish(self, describe: Callable[[Path], None] | None = None) -> None:
        """Copy what no block holds, then everything that is not weights, and give the folder its name.

        Args:
            describe: Writes what else is to be in the folder before it has its name.
        """
        for block in self._resident:
            self._release(self._in_blocks[block])
        self._resident = set()
        for handle in self._handles:
            handle.remove()
        if self.writer is None or self.target is None:
            return
        for name in sorted(self.writer.missing):
            self.writer.copy(name, self.reader)
        self.writer.close()
        with writing(self.target):
            self._copy_rest(self._partial.path)
            if describe is not None:
                describe(self._partial.path)
        self._partial.complete()

    def _copy_rest(self, folder: Path) -> None:
        """Copy everything that is not weights; config and index say what was written."""
        assert self.writer is not None
        copy_rest(self.reader.folder, folder)
        self.model.config.save_pretrained(folder)
        if (name := weights_file(self.reader.folder)).endswith(".index.json"):
            metadata = read_object(self.reader.folder / name).get("metadata", {})
            places = {tensor: entry.file for tensor, entry in self.reader.entries.items()}
            write_index(folder / name, places, self.writer.bytes_written, metadata)

    def abandon(self) -> None:
        """Remove what was written so far."""
        if self.writer is not None and self.target is not None:
            self.writer.close()
            self._partial.abandon()
