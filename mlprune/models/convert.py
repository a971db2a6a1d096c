"""Turn a folder with pickled weights into one with safetensors: ``python -m mlprune.models.convert SRC DST``.

The pickles are read with ``torch.load(weights_only=True)``, which builds tensors and nothing else.
"""

import shutil
import sys
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors.torch import save_file

from mlprune.arguments import Arguments
from mlprune.errors import UserError, one_line
from mlprune.files import whole_folder
from mlprune.models.folder import INDEX, SINGLE, write_index

SKIPPED = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx")


def convert(source: Path, target: Path) -> None:
    """Copy a model folder, its pickled weights as safetensors.

    Args:
        source: Folder with ``pytorch_model.bin`` or shards ``pytorch_model-*.bin``.
        target: New folder; it appears only when complete.

    Raises:
        UserError: If there is nothing to convert, the target exists, or a file holds more than tensors.
    """
    files = sorted(source.glob("pytorch_model*.bin"))
    if not files:
        raise UserError(f"'{source}' has no pytorch_model*.bin to convert")
    with whole_folder(target) as partial:
        _fill(partial, files, source)


def _fill(folder: Path, files: list[Path], source: Path) -> None:
    index: dict[str, str] = {}
    total = 0
    for position, file in enumerate(files, start=1):
        tensors = _read(file)
        name = SINGLE if len(files) == 1 else f"model-{position:05d}-of-{len(files):05d}.safetensors"
        save_file(tensors, folder / name, metadata={"format": "pt"})
        index |= dict.fromkeys(tensors, name)
        total += sum(tensor.nbytes for tensor in tensors.values())
    if len(files) > 1:
        write_index(folder / INDEX, index, total)
    for file in source.iterdir():
        if file.is_file() and file.suffix not in SKIPPED and not file.name.endswith(".bin.index.json"):
            shutil.copy2(file, folder / file.name)


def _read(file: Path) -> dict[str, torch.Tensor]:
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:  # torch advises to read it all the same, which we do not
        raise UserError(
            f"'{file}' holds more than plain tensors, which could run code when read; not converted"
        ) from error
    except Exception as error:  # torch raises zip, OS and runtime errors here, all meaning the same
        raise UserError(f"'{file}' cannot be read as plain tensors: {str(error).splitlines()[0]}") from error
    # Tied weights share memory, which safetensors does not allow; a copy each keeps every name.
    return {name: tensor.contiguous().clone() for name, tensor in loaded.items()}


def main(args: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = Arguments("convert", __doc__)
    parser.add_argument("source", type=Path, help="folder with pytorch_model*.bin")
    parser.add_argument("target", type=Path, help="new folder")
    arguments = parser.parse_args(args)
    try:
        convert(arguments.source, arguments.target)
    except (UserError, OSError) as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
