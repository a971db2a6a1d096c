"""Work of an unfinished run, kept block by block and batch by batch, so that ``--resume`` continues where it stopped.

In ``<run>/.unfinished/``: ``plan.json`` (sparsity of each layer), ``block.<k>.safetensors`` (masks, and weights where
the method changes them), ``<stage>.<rank>.jsonl`` (one line per evaluated batch). Whatever a kill or a full disk
damaged is skipped and computed again.
"""

import json
import shutil
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mlprune.files import to_json, whole_file, write_json, writing
from mlprune.log import log
from mlprune.models.blocks import Block
from mlprune.pruning import LayerReport, LayerStatistics, load_statistics, save_statistics
from mlprune.runs.folder import UNFINISHED


class Unfinished:
    """The store of one run.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: Path) -> None:
        self.folder = run / UNFINISHED

    def start(self) -> None:
        """Make the folder."""
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def remove(self) -> None:
        """Remove the folder: the run is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- pruning --------------------------------------------------------------------------------------------------

    def save_plan(self, sparsities: Mapping[str, float]) -> None:
        """Keep the sparsities of the layers, which may have cost a calibration."""
        write_json(self.folder / "plan.json", dict(sparsities))

    def load_plan(self) -> dict[str, float] | None:
        """Return the sparsities of the layers; None if they are not decided yet."""
        file = self.folder / "plan.json"
        try:
            plan = json.loads(file.read_bytes())
            return {str(path): float(sparsity) for path, sparsity in plan.items()}
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, AttributeError):
            log.warning("'%s' is damaged; the sparsities are decided again", file)
            return None

    def save_statistics(self, k: int, statistics: Mapping[str, LayerStatistics]) -> None:
        """Keep what calibration saw at a block."""
        save_statistics(dict(statistics), self.folder / f"statistics.{k}.safetensors")

    def load_statistics(self) -> dict[str, LayerStatistics]:
        """Return the statistics of all blocks."""
        files = sorted(self.folder.glob("statistics.*.safetensors"), key=lambda file: int(file.name.split(".")[1]))
        return {path: layer for file in files for path, layer in load_statistics(file).items()}

    def save_block(self, k: int, block: Block, reports: Mapping[str, LayerReport]) -> None:
        """Keep what pruning decided for a block."""
        tensors: dict[str, Tensor] = {}
        figures: dict[str, dict[str, Any]] = {}
        for path, report in reports.items():
            tensors[f"mask:{path}"] = report.mask
            if report.weights_changed:
                tensors[f"weight:{path}"] = block.layers[path].stored.detach().cpu().contiguous()
            figures[path] = {name: value for name, value in vars(report).items() if name != "mask"}
        with whole_file(self.folder / f"block.{k}.safetensors") as partial:
            save_file(tensors, partial, metadata={"figures": to_json(figures, f"block {k}")})

    def num_blocks(self) -> int:
        """Return how many blocks are finished; a damaged one and those after it do not count."""
        return next(k for k in count() if not self._is_finished(k))

    def _is_finished(self, k: int) -> bool:
        block, statistics = (self.folder / f"{name}.{k}.safetensors" for name in ("block", "statistics"))
        try:
            with safe_open(block, framework="pt") as content:
                json.loads(content.metadata()["figures"])
            if statistics.is_file():
                with safe_open(statistics, framework="pt"):
                    pass
        except FileNotFoundError:
            return False
        except (OSError, SafetensorError, ValueError, TypeError, KeyError):
            log.warning("block %d in '%s' is damaged; it is pruned again", k + 1, self.folder)
            return False
        return True

    def load_blocks(self) -> list[tuple[dict[str, LayerReport], dict[str, Tensor]]]:
        """Return the reports and changed weights of the blocks that are finished, in order."""
        blocks = []
        for k in range(self.num_blocks()):
            with safe_open(self.folder / f"block.{k}.safetensors", framework="pt") as content:
                figures = json.loads(content.metadata()["figures"])
                reports = {
                    path: LayerReport(content.get_tensor(f"mask:{path}"), **values) for path, values in figures.items()
                }
                changed = [name for name in content.keys() if name.startswith("weight:")]  # noqa: SIM118
                weights = {name.removeprefix("weight:"): content.get_tensor(name) for name in changed}
            blocks.append((reports, weights))
        return blocks

    # -- evaluation -----------------------------------------------------------------------------------------------

    def add_records(self, stage: str, rank: int, task: str, lang: str, records: list[dict[str, Any]]) -> None:
        """Append the records of one batch as one line, so that a batch is either complete or absent."""
        where = f"task '{task}', language '{lang}'"
        line = to_json({"task": task, "lang": lang, "records": records}, where) + "\n"
        path = self.folder / f"{stage}.{rank}.jsonl"
        with writing(path), path.open("a", encoding="utf-8") as file:
            file.write(line)

    def forget_records(self, stage: str) -> None:
        """Remove the records of a stage, of all processes."""
        for file in self.folder.glob(f"{stage}.*.jsonl"):
            file.unlink()

    def load_records(self, stage: str) -> dict[tuple[str, str, int], dict[str, Any]]:
        """Return (task, language, position) to record, of all processes."""
        found: dict[tuple[str, str, int], dict[str, Any]] = {}
        for file in sorted(self.folder.glob(f"{stage}.*.jsonl")):
            lines = file.read_bytes().split(b"\n")  # a cut may fall within a character, and texts may hold U+2028
            damaged = bool(lines.pop())
            for line in lines:
                try:
                    batch = json.loads(line.decode("utf-8"))
                    found |= {(batch["task"], batch["lang"], row["position"]): row for row in batch["records"]}
                except (ValueError, TypeError, KeyError):  # a line that was cut, and the next one appended to it
                    damaged = True
            if damaged:
                log.warning("'%s' has damaged lines; their examples are evaluated again", file)
        return found
