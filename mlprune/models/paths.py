"""Where a layer stands, read from its path alone."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerPath:
    """A layer's path in its parts: the stack of blocks, the block's number in it, the layer within the block.

    Args:
        stack: Path of the list of blocks, such as ``model.layers``; empty if the path names no block.
        block: Number of the block in its stack; None if the path names no block.
        layer: What the layer is within its block; the same for all blocks of a stack.

    Example:
        >>> path = LayerPath.of("model.layers.3.self_attn.q_proj")
        >>> path
        LayerPath(stack='model.layers', block=3, layer='self_attn.q_proj')
        >>> path.block_path
        'model.layers.3'
        >>> LayerPath.of("lm_head")
        LayerPath(stack='', block=None, layer='lm_head')
    """

    stack: str
    block: int | None
    layer: str

    @classmethod
    def of(cls, path: str) -> "LayerPath":
        """Split a path at its first number, which is the block's: blocks are the elements of the outermost list."""
        parts = path.split(".")
        place = next((i for i, part in enumerate(parts) if part.isdecimal()), None)
        if place is None:
            return cls("", None, path)
        return cls(".".join(parts[:place]), int(parts[place]), ".".join(parts[place + 1 :]))

    @property
    def block_path(self) -> str:
        """Path of the block; empty if there is none."""
        return "" if self.block is None else f"{self.stack}.{self.block}".lstrip(".")
