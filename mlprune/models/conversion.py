"""Tensors whose names or shapes in the checkpoint differ from the model's, a few at a time.

transformers merges and renames tensors while it loads (the experts of a mixture, stored one by one, become one 3-D
parameter) and does the reverse while it saves. These are its own rules, applied to single parameters.
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy

from torch import Tensor
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
    revert_weight_conversion,
)

from mlprune.models.shards import ShardReader


class Conversion:
    """From a checkpoint's tensors to a model's parameters and back.

    Args:
        model: The model; its parameters may be on the meta device.
        keys: Names of all tensors in the checkpoint.
    """

    def __init__(self, model: PreTrainedModel, keys: Iterable[str]) -> None:
        self.model = model
        rules = get_model_conversion_mapping(model)
        renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
        converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
        self._by_pattern = {pattern: rule for rule in converters for pattern in rule.source_patterns}
        self._sources: dict[str, list[tuple[str, str | None]]] = {}
        parameters = model.state_dict()
        for key in sorted(keys, key=dot_natural_key):  # experts in their order
            name, pattern = rename_source_key(key, renamings, converters, model.base_model_prefix, parameters)
            if name in parameters:
                self._sources.setdefault(name, []).append((key, pattern))

    def __contains__(self, name: str) -> bool:
        return name in self._sources

    def keys(self, name: str) -> list[str]:
        """Return the names of the tensors that a parameter is stored as; none if it is not in the checkpoint."""
        return [key for key, _ in self._sources.get(name, [])]

    def duplicated(self) -> list[str]:
        """Return the parameters that are stored whole more than once, of which only one could be read."""
        return [name for name, keys in self._sources.items() if len(keys) > 1 and any(rule is None for _, rule in keys)]

    def read(self, name: str, reader: ShardReader) -> Tensor:
        """Read a parameter, merged from all tensors it is stored as."""
        sources = self._sources[name]
        first_pattern = sources[0][1]
        if first_pattern is None:
            return reader.read(sources[0][0])
        rule = deepcopy(self._by_pattern[first_pattern])
        for key, pattern in sources:
            rule.add_tensor(name, key, pattern, reader.read(key))  # type: ignore[arg-type]  # tensors will do as well as futures
        value = rule.convert(name, model=self.model, config=self.model.config)[name]
        tensor: Tensor = value[0] if isinstance(value, list) else value
        return tensor

    def stored(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return parameters as the tensors they are stored as."""
        found: dict[str, Tensor] = revert_weight_conversion(self.model, dict(parameters))
        return found
