"""Whether a checkpoint holds the weights of the model that its config.json describes: no more, no less, of its shapes.

transformers draws weights at random where a checkpoint lacks them, and passes over those it has no place for. Here its
own rules are applied to the headers of the files and to the model on the meta device, before any weight is read, so
that loading into memory and streaming give the same verdict.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import convert_and_load_state_dict_in_model
from transformers.modeling_utils import LoadStateDictConfig
from transformers.utils import logging

from mlprune.errors import UserError
from mlprune.log import log
from mlprune.models.conversion import Conversion
from mlprune.models.shards import Entry

# what wraps a model, and then stands in the names of its weights
WRAPPERS = (
    "_orig_mod.",
    "module.",
    "base_model.model.",
    "_forward_module.",
    "_fsdp_wrapped_module.",
    "_checkpoint_wrapped_module.",
)
LEADING = re.compile("(?:" + "|".join(map(re.escape, WRAPPERS)) + ")+")
INNER = re.compile(r"(?<=\.)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")

# constants that older versions stored and newer ones compute
CONSTANTS = re.compile(
    r"(?:^|\.)(?:inv_freq|position_ids|masked_bias|causal_mask|(?:attn|attention|self_attention)\.bias"
    r"|embed_positions\.weights)$"
)
# parts beside the language model: eyes, ears and voice, prediction of further tokens, heads of other tasks
OTHER_PARTS = re.compile(
    r".*(vision|visual|image|img|video|audio|speech|sound|talker|code2wav|token2wav|projector|multi_?modal|mm_|qformer"
    r"|query_tokens|connector|resampler|mtp|nextn|medusa|eagle).*"
    r"|language_projection|score|scores|classifier|classification_head|class_head|cls|pooler|v_head|value_head"
    r"|reward_head|rewards?|regression_head|qa_outputs|multiple_choice_head|summary|sequence_summary"
)
NUM_PREDICTION_LAYERS = ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers", "num_mtp_modules")
SHOWN = 3


@dataclass
class Verdict:
    """What does not fit between a checkpoint and a model.

    Args:
        total: Weights that the model has, tied ones once.
        missing: Names in the model without a tensor in the checkpoint.
        misshapen: Names, with the shape in the checkpoint and the shape in the model.
        homeless: Names in the checkpoint that should have a place in the model.
        doubled: Names in the model for which the checkpoint has several tensors.
        unused: Names in the checkpoint of parts that the model does not have.
        problems: What went wrong where tensors are merged.
    """

    total: int
    missing: list[str] = field(default_factory=list)
    misshapen: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    homeless: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def check(self, folder: str | Path) -> None:
        """Refuse a checkpoint that does not fit; say in one warning what of it is not used.

        Args:
            folder: The checkpoint, as it is named to the user.

        Raises:
            UserError: If weights are missing, misshapen or without a place, naming the first of them.
        """
        told = []
        if self.missing:
            told.append(f"lacks {len(self.missing)} of {self.total} weights of the model: {_some(self.missing)}")
        if self.misshapen:
            shapes = [f"{name} {have} for {wanted}" for name, have, wanted in self.misshapen]
            told.append(f"has weights of another shape than config.json asks for: {_some(shapes)}")
        if self.problems:
            told.append(f"has tensors that cannot be merged into {_some(self.problems)}")
        if self.doubled:
            told.append(f"has several tensors for {_some(self.doubled)}")
        if self.homeless:
            told.append(f"has {_some(self.homeless)}, which has no place in the model that config.json describes")
        if told:
            raise UserError(f"'{folder}' {'; it '.join(told)}; download it again, or make config.json fit the weights")
        if self.unused:
            log.warning(
                "'%s': tensors of parts that the language model does not have are not used: %s",
                folder,
                _some(self.unused),
            )


def _some(names: list[str]) -> str:
    more = f" (and {len(names) - SHOWN} more)" if len(names) > SHOWN else ""
    return ", ".join(map(_shown, names[:SHOWN])) + more


def _shown(name: str) -> str:
    """A name of someone's, in which nothing moves a cursor, and which does not fill the screen."""
    printable = "".join(character if character.isprintable() else "?" for character in name)
    return printable if len(printable) <= 120 else f"{printable[:120]}..."


def verdict(model: PreTrainedModel, entries: Mapping[str, Entry]) -> Verdict:
    """Compare a checkpoint with a model.

    Args:
        model: On the meta device, with no weights tied; it is used up.
        entries: The checkpoint's tensors, without prefixes of wrappers.
    """
    doubled = Conversion(model, entries).doubled()
    constants = {name for name, _ in model.named_buffers()} - model.state_dict().keys()
    total = len(model.state_dict().keys() - model.all_tied_weights_keys.keys())
    tensors = {name: torch.empty(entry.shape, dtype=entry.dtype, device="meta") for name, entry in entries.items()}
    rules: Any = get_model_conversion_mapping(model)
    config = LoadStateDictConfig(device_map={"": "meta"}, weight_mapping=rules)
    with _quiet():
        report, _ = convert_and_load_state_dict_in_model(model, tensors, config)
        model.tie_weights(missing_keys=report.missing_keys, recompute_mapping=False)
        unexpected = {name for name in report.unexpected_keys if not _is_constant(name, constants, entries)}
        model._adjust_missing_and_unexpected_keys(report)
    parts = {name for name in unexpected if _is_of_another_part(model, name)}
    return Verdict(
        total=total,
        missing=sorted(report.missing_keys),
        misshapen=sorted((name, tuple(have), tuple(want)) for name, have, want in report.mismatched_keys),
        homeless=sorted(unexpected & report.unexpected_keys - parts),
        doubled=sorted(doubled),
        unused=sorted(parts),
        problems=sorted(report.conversion_errors),
    )


def _is_constant(name: str, constants: set[str], entries: Mapping[str, Entry]) -> bool:
    """Tell whether a tensor is one that the model computes; a learned bias is a vector, a mask is none."""
    is_vector = name in entries and len(entries[name].shape) == 1
    return name in constants or (CONSTANTS.search(name) is not None and not (name.endswith(".bias") and is_vector))


def _is_of_another_part(model: PreTrainedModel, name: str) -> bool:
    """Tell whether a tensor without a place belongs to a part beside the language model.

    Its path leaves the model's own modules at the model itself or its base, not inside a block, and there it has the
    name of such a part; or it is a layer for further tokens, numbered after the last.
    """
    parts = name.split(".")
    known = 0
    while known < len(parts) and _has_module(model, ".".join(parts[: known + 1])):
        known += 1
    parent = model.get_submodule(".".join(parts[:known]))
    if isinstance(parent, PreTrainedModel):
        return known < len(parts) and OTHER_PARTS.fullmatch(parts[known].lower()) is not None
    number = parts[known] if known < len(parts) else ""
    if isinstance(parent, torch.nn.ModuleList) and number.isdecimal():
        return len(parent) <= int(number) < len(parent) + _num_prediction_layers(model)
    return False


def _has_module(model: PreTrainedModel, path: str) -> bool:
    try:
        model.get_submodule(path)
    except AttributeError:
        return False
    return True


def _num_prediction_layers(model: PreTrainedModel) -> int:
    config = model.config.get_text_config()
    return max(int(getattr(config, key, 0) or 0) for key in NUM_PREDICTION_LAYERS)


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar and no table for what only looks at names and shapes; the verdict says what they would."""
    library: Any = logging  # untyped
    bar, level = library.is_progress_bar_enabled(), library.get_verbosity()
    library.disable_progress_bar()
    library.set_verbosity_error()
    try:
        yield
    finally:
        library.set_verbosity(level)
        if bar:
            library.enable_progress_bar()


def unwrapped(names: list[str], model: PreTrainedModel, folder: str | Path) -> dict[str, str]:
    """Return each tensor's name without the prefixes of what the model was wrapped in when it was saved.

    Args:
        names: Names in the checkpoint.
        model: The model; names that begin as its own do are left alone.
        folder: The checkpoint, as it is named to the user.

    Raises:
        UserError: If two tensors get the same name.
    """
    own = model.state_dict().keys()
    if any(LEADING.match(name) or INNER.search(name) for name in own):
        return {name: name for name in names}
    new = {name: INNER.sub("", LEADING.sub("", name, count=1) if LEADING.match(name) else name) for name in names}
    taken: dict[str, str] = {}
    for name, short in new.items():
        if short in taken:
            raise UserError(f"'{folder}' has two tensors of one name: {_shown(taken[short])} and {_shown(name)}")
        taken[short] = name
    found = sorted({_taken_off(name) for name, short in new.items() if short != name})
    if found:
        count = sum(short != name for name, short in new.items())
        log.info("'%s': taken off the names of %d tensors: %s", folder, count, ", ".join(found))
    return new


def _taken_off(name: str) -> str:
    leading = LEADING.match(name)
    return leading.group() if leading else INNER.search(name).group()  # type: ignore[union-attr]


def check_report(model: PreTrainedModel, report: Mapping[str, Any], folder: str | Path) -> None:
    """Refuse a model of which transformers says that it could not load all.

    Args:
        model: The model, loaded.
        report: What ``from_pretrained`` returned beside it with ``output_loading_info``.
        folder: The checkpoint, as it is named to the user.

    Raises:
        UserError: If weights are missing, misshapen or without a place.
    """
    unexpected = [name for name in report["unexpected_keys"] if not CONSTANTS.search(name)]
    Verdict(
        total=len(model.state_dict()),
        missing=sorted(report["missing_keys"]),
        misshapen=sorted((name, tuple(have), tuple(want)) for name, have, want in report["mismatched_keys"]),
        homeless=sorted(name for name in unexpected if not _is_of_another_part(model, name)),
    ).check(folder)
