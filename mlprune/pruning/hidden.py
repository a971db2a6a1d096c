"""Hidden states kept in memory-mapped files, for prompts whose states do not fit into memory."""

from pathlib import Path

import torch
from torch import Tensor


class HiddenFolder:
    """Keeps one tensor a batch in a file each; the operating system decides what is kept in memory.

    Args:
        folder: Where the files go; made if missing. They can be removed when pruning is over.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     HiddenFolder(folder).keep(0, torch.ones(2))
        tensor([1., 1.])
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._kept: dict[int, Tensor] = {}

    def keep(self, index: int, hidden: Tensor) -> Tensor:
        """Store a batch's hidden states over its last ones and return them as a view of the file."""
        kept = self._kept.get(index)
        if kept is None or kept.shape != hidden.shape or kept.dtype != hidden.dtype:
            path = self.folder / f"hidden.{index}.bin"
            path.unlink(missing_ok=True)
            flat = torch.from_file(str(path), shared=True, size=hidden.numel(), dtype=hidden.dtype)
            kept = self._kept[index] = flat.view(hidden.shape)
        return kept.copy_(hidden)

    def remove(self) -> None:
        """Remove the files."""
        self._kept.clear()
        for path in self.folder.glob("hidden.*.bin"):
            path.unlink()
