"""What TensorBoard costs a whole run: ``fit`` with all that is logged by default against the same run with nothing.

    python tests/benchmarks/bench_tensorboard.py [--config configs/demo.yaml] [--tiny] [--rounds 1]

Prints the processor seconds of each round and the cost in percent of the run (medians; the aim: at most 5 %). The runs
are the demo's unless another config is given, twice a round. ``--tiny`` is a minute's check on a random Llama of 60
million weights, where the run is short and the same figures weigh more.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import yaml

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
os.environ["HF_HUB_OFFLINE"] = "1"

from tiny import tiny_model, tiny_tokenizer  # noqa: E402
from tiny_runs import tiny_config  # noqa: E402

from mlprune.cli import main  # noqa: E402

AIM = 5.0
DEMO = Path(__file__).parents[2] / "configs" / "demo.yaml"
SIZES = {
    "hidden_size": 640,
    "intermediate_size": 2048,
    "num_hidden_layers": 10,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "max_position_embeddings": 2048,
}


def seconds(folder: Path, config: dict, logs: bool) -> float:
    """Return the processor seconds of one run in a folder of its own."""
    callback = {"class_path": "mlprune.callbacks.TensorBoard", "init_args": {"output_error": logs, "figures": logs}}
    trainer = config["trainer"] | {
        "callbacks": [callback],
        "default_root_dir": str(folder),
        "enable_progress_bar": False,
    }
    if not logs:
        trainer["logger"] = False
    file = folder / "run.yaml"
    folder.mkdir()
    file.write_text(yaml.safe_dump(config | {"trainer": trainer}), encoding="utf-8")
    sys.argv = ["main.py"]
    start = time.process_time()  # of this process alone, so that a busy machine does not disturb
    if main(["fit", "--config", str(file)]) != 0:
        raise SystemExit("the run failed")
    return time.process_time() - start


def tiny(root: Path) -> dict:
    """Make a small random model and return the settings of a short run."""
    model = root / "model"
    tiny_model("llama", **SIZES).save_pretrained(model)
    tiny_tokenizer().save_pretrained(model)
    config = tiny_config(model)
    config["data"] |= {"num_prompts": 12, "max_tokens": 400, "max_batch_tokens": 2048, "max_batch_chars": 4096}
    return config


def run(config_file: Path | None, rounds: int) -> float:
    """Print the cost in percent and return it.

    Args:
        config_file: The run's config; a tiny run if omitted.
        rounds: Runs with and runs without logs.
    """
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        config = yaml.safe_load(config_file.read_text(encoding="utf-8")) if config_file else tiny(root)
        config["pruning"] = config.get("pruning", {}) | {"save_model": False}
        if config_file is None:
            seconds(root / "warm", config, logs=True)
        times: dict[bool, list[float]] = {False: [], True: []}
        for turn in range(rounds):
            for logs in (False, True) if turn % 2 else (True, False):
                times[logs].append(seconds(root / f"{turn}.{logs}", config, logs))
    without, with_logs = (statistics.median(times[logs]) for logs in (False, True))
    cost = 100 * (with_logs / without - 1)
    print(f"without: {times[False]} s\nwith:    {times[True]} s\ncost: {cost:+.1f} % of the run (aim: {AIM} %)")
    return cost


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=DEMO)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    sys.exit(run(None if arguments.tiny else arguments.config, arguments.rounds) > AIM)
