"""What a model folder holds: which files hold its weights, or what is there instead.

Names that a file of the folder gives are plain names inside it: nothing outside is opened or written.
"""

import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mlprune.errors import UserError
from mlprune.files import write_json

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
CHAT_TEMPLATES = "additional_chat_templates"  # folder of templates that have names, as save_pretrained writes it
WEIGHTS = (
    *("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "*.pt", "*.pth", "*.ckpt"),
    *("*.h5", "*.msgpack", "*.onnx", "*.onnx_data", "*.gguf"),
)
TRAINING_STATE = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state).*\.(bin|pt|pth)")

# file names, in the order of preference, what they are, and what to do about them
INSTEAD = (
    (
        r"model-\d+-of-\d+\.safetensors",
        f"has shards such as {{name}}, but no {INDEX}, which says what is where; download it too",
    ),
    (
        r".+\.bitmask\.safetensors",
        "has {name} only, an archive; load it with mlprune.load_compressed, or restore it with `mlprune compress "
        "--restore`",
    ),
    (
        r"model\.[^.]+\.safetensors|model\.[^.]+-\d+-of-\d+\.safetensors",
        f"has weights of a variant only ({{name}}); rename its files to {SINGLE}, or to shards with their index",
    ),
    (
        r"consolidated.*\.(safetensors|pth)",
        "has {name} only, the maker's original format; download the files that are named model*.safetensors, or "
        "convert it as its model card says",
    ),
    (
        r"pytorch_model.*\.bin",
        "has pickled weights only, which can run code when read; give a model.revision that has safetensors, or "
        "convert it with `python -m mlprune.models.convert SRC DST`",
    ),
    (r".+\.gguf", "has {name} only, a GGUF file; give a folder with the model's safetensors"),
    (r"tf_model.*\.h5", "has {name} only, weights of TensorFlow; give a folder with the model's safetensors"),
    (r"flax_model.*\.msgpack", "has {name} only, weights of Flax; give a folder with the model's safetensors"),
    (r".+\.onnx", "has {name} only, an ONNX file; give a folder with the model's safetensors"),
    (r".+\.safetensors", f"has {{name}}, but no {SINGLE} and no {INDEX}; rename it if it holds the whole model"),
    (r".+\.(bin|pt|pth|ckpt)", f"has {{name}}, but no {SINGLE}; give a folder that save_pretrained wrote"),
)


def check_folder(folder: Path, weights: bool = True) -> None:
    """Look at the names in a model folder, and at the beginnings of its files, without reading any of them.

    Args:
        folder: An existing folder.
        weights: Whether it must hold weights.

    Raises:
        UserError: If it holds no config.json or no safetensors, saying what it holds instead; if it is an adapter; if
            a file is a placeholder of git-lfs or a web page.
    """
    if (folder / ADAPTER).is_file():
        raise UserError(
            f"model.name '{folder}' holds a PEFT adapter ({ADAPTER}); merge it into its base model (merge_and_unload, "
            "then save_pretrained into a new folder), and give that folder"
        )
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    if not any(name.endswith(".gguf") for name in names) and CONFIG not in names:
        raise UserError(f"model.name '{folder}' has no {CONFIG}; give a folder that save_pretrained wrote")
    for name in names:
        if name.endswith((".json", ".safetensors", ".model", ".txt", ".jinja")):
            refuse_placeholder(folder / name)
    if weights:
        weights_file(folder)


def weights_file(folder: Path) -> str:
    """Return the name of the file that the weights are in, or of the index of their shards.

    Args:
        folder: A folder with config.json.

    Raises:
        UserError: If there is none, or config.json names one outside the folder.
    """
    named = read_object(folder / CONFIG).get("transformers_weights") if (folder / CONFIG).is_file() else None
    if named is not None:
        if not is_plain(named) or not named.endswith((".safetensors", ".safetensors.index.json")):
            raise UserError(
                f"'{folder / CONFIG}': transformers_weights {named!r:.80} is not allowed; it is the plain name of a "
                "*.safetensors file in the folder"
            )
        if not (folder / named).is_file():
            raise UserError(f"'{folder / CONFIG}': transformers_weights names {named!r:.80}, which is missing")
        return str(named)
    for name in (SINGLE, INDEX):
        if (folder / name).is_file():
            return name
    names = [path.name for path in folder.iterdir() if path.is_file()]
    raise UserError(f"model.name '{folder}' {in_place_of_weights(names)}")


def in_place_of_weights(names: Iterable[str]) -> str:
    """Say what a folder without safetensors of a usual name holds, and what to do.

    Args:
        names: Names of its files.

    Example:
        >>> in_place_of_weights(["config.json", "q4.gguf"])
        "has q4.gguf only, a GGUF file; give a folder with the model's safetensors"
    """
    names = sorted(name for name in names if not TRAINING_STATE.fullmatch(name))
    for pattern, said in INSTEAD:
        if found := [name for name in names if re.fullmatch(pattern, name)]:
            return said.format(name=found[0])
    return f"has no {SINGLE}; give a folder that save_pretrained wrote"


def shard_files(folder: Path) -> list[str]:
    """Return the names of the safetensors files that hold a folder's weights, sorted.

    Args:
        folder: A folder with config.json and safetensors.

    Raises:
        UserError: If the index is damaged, or names a file that is missing or outside the folder.
    """
    name = weights_file(folder)
    if (folder / INDEX).is_file():
        weight_map(folder / INDEX)  # refused when it is hostile, even where it is not used
    if not name.endswith(".index.json"):
        return [name]
    files = sorted(set(weight_map(folder / name).values()))
    for file in files:
        if not (folder / file).is_file():
            raise UserError(f"'{folder}' has no '{file}', which {name} names; download it again")
    return files


def weight_map(index: Path) -> dict[str, str]:
    """Return which file of its folder holds each tensor.

    Args:
        index: An index of shards.

    Raises:
        UserError: If it is damaged, or names a file by anything but a plain name.
    """
    content = read_object(index)
    found, metadata = content.get("weight_map"), content.get("metadata", {})
    if not isinstance(found, dict) or not found or not isinstance(metadata, dict):
        raise UserError(f"'{index}' is damaged: weight_map must map names of tensors to names of files")
    for name in found.values():
        if not is_plain(name) or not name.endswith(".safetensors"):
            raise UserError(f"'{index}' names {name!r:.80}; files are plain names of *.safetensors in its folder")
    return found


def write_index(
    index: Path, places: Mapping[str, str], num_bytes: int, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write an index of shards.

    Args:
        index: The file.
        places: The file of its folder that holds each tensor.
        num_bytes: Size of all tensors.
        metadata: What else the index says.
    """
    write_json(index, {"metadata": {**(metadata or {}), "total_size": num_bytes}, "weight_map": {**places}})


def copy_rest(source: Path, target: Path, rewritten: Sequence[str] = ()) -> None:
    """Copy what is no weights, such as a tokenizer, code and notices; of folders only that of chat templates.

    Args:
        source: A model's folder.
        target: An existing folder.
        rewritten: Patterns of further names that are not copied.
    """
    for file in source.iterdir():
        if file.is_file() and not any(fnmatch(file.name, pattern) for pattern in (*WEIGHTS, *rewritten)):
            shutil.copyfile(file, target / file.name)
    if (source / CHAT_TEMPLATES).is_dir():
        shutil.copytree(source / CHAT_TEMPLATES, target / CHAT_TEMPLATES, dirs_exist_ok=True)


def is_plain(name: object) -> bool:
    """Tell whether a name that was read from a file is the name of a file in the same folder, and no path.

    Example:
        >>> [is_plain(name) for name in ("model.safetensors", "../model.safetensors", "/etc/passwd", "..", "", 3)]
        [True, False, False, False, False, False]
    """
    return isinstance(name, str) and re.fullmatch(r"[^/\\\x00-\x1f\x7f]+", name) is not None and name not in (".", "..")


def read_object(file: Path) -> dict[str, Any]:
    """Return what a JSON file holds, which must be an object.

    Args:
        file: The file.

    Raises:
        UserError: If it cannot be read, or holds something else.
    """
    try:
        refuse_placeholder(file)
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"'{file}' is not JSON ({str(error)[:80]}); download it again") from error
    except OSError as error:
        raise UserError(f"'{file}' cannot be read: {error.strerror}") from error
    if not isinstance(content, dict):
        raise UserError(f"'{file}' holds {type(content).__name__}, not a JSON object; download it again")
    return content


def refuse_placeholder(file: Path) -> None:
    """Raise UserError if a file is a placeholder that was downloaded instead of the real one.

    Args:
        file: The file, of which only the beginning is read.
    """
    try:
        with file.open("rb") as handle:
            start = handle.read(200)
    except OSError as error:
        raise UserError(f"'{file}' cannot be read: {error.strerror}") from error
    if start.startswith(b"version https://git-lfs"):
        raise UserError(f"'{file}' is a placeholder of git-lfs; run `git lfs pull` in its folder")
    if start.lstrip().lower().startswith((b"<html", b"<!doctype html")):
        raise UserError(f"'{file}' is a web page, not the file that was to be downloaded; download it again")
