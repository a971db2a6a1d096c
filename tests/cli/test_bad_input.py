"""Wrong configs and command lines: one line that names key, value and what is allowed, before a model is loaded."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_runs import tiny_config

ROOT = Path(__file__).parents[2]
Config = dict[str, Any]
FLORES = "mlprune.data.corpora.FloresFolder"
ABSENT = "mps" if torch.cuda.is_available() else "cuda"
FILES = "mlprune.data.corpora.LocalFiles"


def task(number: int = 0, /, **options: Any) -> Callable[[Config], None]:
    return lambda config: config["data"]["tasks"][number]["init_args"].update(options)


def demonstrations(**options: Any) -> Callable[[Config], None]:
    return lambda config: config["data"]["demonstrations"]["mt"]["init_args"].update(options)


def pruning(**parts: Any) -> Callable[[Config], None]:
    def part(value: Any) -> Any:
        return (
            {"class_path": f"mlprune.pruning.{value[0]}", "init_args": value[1]} if isinstance(value, tuple) else value
        )

    return lambda config: config.update(pruning={name: part(value) for name, value in parts.items()})


def section(name: str, /, **options: Any) -> Callable[[Config], None]:
    return lambda config: config.setdefault(name, {}).update(options)


def split(name: str, /, **options: Any) -> Callable[[Config], None]:
    """Weights split over processes, and a section that does not go with them."""
    sizes = {"data_parallel_size": 1, "tensor_parallel_size": 1}
    strategy = {"class_path": "lightning.pytorch.strategies.ModelParallelStrategy", "init_args": sizes}

    def change(config: Config) -> None:
        section("trainer", devices=1, strategy=strategy)(config)
        section(name, **options)(config)

    return change


def corpus(class_path: str, /, **options: Any) -> dict[str, Any]:
    return {"class_path": class_path, "init_args": options}


def demonstrations_of(**options: Any) -> Config:
    return corpus("mlprune.data.demonstrations.TranslationDemonstrations", source_lang="fr", **options)


# what is wrong in the config, and words that the one line must hold
CONFIGS: dict[str, tuple[Callable[[Config], None], list[str]]] = {
    "unknown section": (section("modle", name="x"), ["'modle.name'", "did you mean 'model.name'"]),
    "unknown model key": (section("model", nmae="x"), ["model.nmae", "did you mean 'model.name'"]),
    "unknown data key": (section("data", num_prompt=3), ["data.num_prompt", "did you mean 'data.num_prompts'"]),
    "unknown pruning key": (
        section("pruning", propagat="dense"),
        ["pruning.propagat", "did you mean 'pruning.propagate'"],
    ),
    "unknown option of a class": (task(languagess=["en"]), ["data.tasks", "'languagess'", "did you mean 'languages'"]),
    "misspelt class": (
        lambda c: c["data"]["tasks"][0].update(class_path="mlprune.evaluation.tasks.CandidateTsk"),
        ["data.tasks", "CandidateTsk", "did you mean 'CandidateTask'"],
    ),
    "misspelt module": (
        lambda c: c["data"]["tasks"][0].update(class_path="mlprune.evaluatoin.tasks.CandidateTask"),
        ["data.tasks", "mlprune.evaluatoin", "does not exist"],
    ),
    "class of another kind": (
        lambda c: c["data"]["tasks"][0].update(class_path="mlprune.pruning.Wanda"),
        ["data.tasks", "mlprune.pruning.Wanda", "not a Task", "CandidateTask"],
    ),
    "misspelt importance": (
        pruning(importance=("Wandaa", {})),
        ["pruning.importance", "Wandaa", "did you mean 'Wanda'"],
    ),
    "option of an importance": (pruning(importance=("Wanda", {"varint": 1})), ["varint", "did you mean 'variant'"]),
    "sparsity 1": (pruning(pattern=("Unstructured", {"sparsity": 1.0})), ["sparsity 1.0", "0 <= sparsity < 1"]),
    "sparsity below 0": (pruning(pattern=("Unstructured", {"sparsity": -0.1})), ["sparsity -0.1", "0 <= sparsity < 1"]),
    "sparsity in words": (
        pruning(pattern=("Unstructured", {"sparsity": "third"})),
        ["sparsity", "'third'", "a number"],
    ),
    "sweep without dense calibration": (section("pruning", sweep=[0.1]), ["pruning.sweep", "propagate dense"]),
    "sweep of nothing": (section("pruning", sweep=[], propagate="dense"), ["pruning.sweep []", "at least one"]),
    "sweep out of range": (section("pruning", sweep=[1.5], propagate="dense"), ["sparsity 1.5", "0 <= sparsity < 1"]),
    "sweep with training": (
        lambda c: c.update(pruning={"sweep": [0.1], "propagate": "dense"}, trainer=c["trainer"] | {"max_epochs": 1}),
        ["pruning.sweep", "trainer.max_epochs 1"],
    ),
    "no sparsity": (pruning(pattern=("Unstructured", {})), ["pruning.pattern", "sparsity", "required"]),
    "scope": (pruning(pattern=("Unstructured", {"sparsity": 0.3, "scope": "col"})), ["scope", "'col'", "row, layer"]),
    "drop": (pruning(pattern=("Unstructured", {"sparsity": 0.3, "drop": "low"})), ["drop", "'low'", "lowest, highest"]),
    "all of M": (pruning(pattern=("NofM", {"kept": 4, "of": 4})), ["kept 4 of 4", "1 <= kept < of"]),
    "none of M": (pruning(pattern=("NofM", {"kept": 0, "of": 4})), ["kept 0 of 4", "1 <= kept < of"]),
    "propagate": (pruning(propagate="sparse"), ["pruning.propagate", "'sparse'", "pruned, dense, layer"]),
    "include is no list": (pruning(include="mlp"), ["pruning.include", "'mlp'", "a list"]),
    "include is no expression": (pruning(include=["("]), ["include", "'('", "regular expression"]),
    "keep is drop": (pruning(importance=("ContrastiveWanda", {"keep": "mt", "drop": "mt"})), ["keep and drop", "'mt'"]),
    "no such group": (pruning(importance=("ContrastiveWanda", {})), ["ContrastiveWanda", "group 'code'", "has mt"]),
    "variant with N:M": (
        pruning(importance=("Wanda", {"variant": True}), pattern=("NofM", {"kept": 2, "of": 4})),
        ["Wanda(variant=True)", "scope='row'"],
    ),
    "OWL with N:M": (pruning(allocation=("OWL", {}), pattern=("NofM", {"kept": 2, "of": 4})), ["OWL", "Unstructured"]),
    "unknown language": (demonstrations(source_lang="frr"), ["'frr'", "did you mean 'fr'"]),
    "language the corpus lacks": (demonstrations(source_lang="de"), ["'parallel'", "'de'", "en, es, fr, hi, sw, zh"]),
    "task language the corpus lacks": (task(languages=["en", "de"]), ["'nli'", "'de'", "en, es, fr, hi, sw, zh"]),
    "one language twice": (task(languages=["en", "en"]), ["task 'nli'", "languages", "each once"]),
    "no languages": (task(languages=[]), ["task 'nli'", "languages []", "at least one"]),
    "into the same language": (demonstrations(source_lang="en"), ["source_lang and target_lang", "'en'"]),
    "no source": (
        lambda c: c["data"]["demonstrations"]["mt"].pop("init_args"),
        ["data.demonstrations", "source_lang", "required"],
    ),
    "shots 0": (demonstrations(shots=0), ["shots 0", "at least 1"]),
    "prompts 0": (section("data", num_prompts=0), ["data.num_prompts", "0", "at least 1"]),
    "more prompts than rows": (section("data", num_prompts=5000), ["num_prompts 5000", "10000 unused rows"]),
    "tokens 0": (section("data", max_tokens=0), ["data.max_tokens", "0", "at least 1"]),
    "limit 0": (section("data", limit=0), ["data.limit", "0", "at least 1"]),
    "two tasks of one name": (task(1, name="nli"), ["data.tasks", "'nli'", "a name of its own"]),
    "name with a slash": (task(name="a/b"), ["'a/b'", "letters, digits"]),
    "no such template": (task(template="xnlii"), ["'xnlii'", "marc", "did you mean 'xnli'"]),
    "normalization": (task(normalization="mean"), ["normalization", "'mean'", "token, sum, paper"]),
    "too_long": (task(too_long="cut"), ["too_long", "'cut'", "error, truncate"]),
    "no such bundled corpus": (
        task(corpus=corpus("mlprune.data.corpora.Bundled", name="nlii")),
        ["'nlii'", "parallel, nli"],
    ),
    "no such split": (
        task(corpus=corpus("mlprune.data.corpora.Bundled", name="nli", split="dev")),
        ["'dev'", "'nli'", "no split"],
    ),
    "columns that the template lacks": (
        task(corpus=corpus("mlprune.data.corpora.Bundled", name="reviews")),
        ["task 'nli'", "no column 'label'", "id, stars, text"],
    ),
    "no FLORES folder": (demonstrations(corpus=corpus(FLORES, path="/nowhere")), ["'/nowhere'", "eng_Latn.dev"]),
    "no known extension": (
        demonstrations(corpus=corpus(FILES, path="a.{lang}.xls")),
        ["a.{lang}.xls", "jsonl", "parquet"],
    ),
    "no such file": (demonstrations(corpus=corpus(FILES, path="a.{lang}.csv")), ["a.fr.csv", "does not exist"]),
    "tasks are no list": (section("data", tasks={"a": 1}), ["data.tasks", "a list"]),
    "demonstrations are no mapping": (section("data", demonstrations=[1]), ["data.demonstrations", "a mapping"]),
    "no tasks": (section("data", tasks=[]), ["data.tasks is empty", "at least one"]),
    "translation with negative shots": (task(2, shots=-1), ["task 'translation'", "shots -1", "0 or more"]),
    "no beams": (task(2, num_beams=0), ["task 'translation'", "num_beams 0", "at least 1"]),
    "only the target language": (task(2, languages=["en"]), ["task 'translation'", "languages"]),
    "dtype": (section("model", dtype="float23"), ["model.dtype", "'float23'", "did you mean 'float32'"]),
    "no such folder": (section("model", name="/nowhere/model"), ["model.name", "'/nowhere/model'", "folder"]),
    "almost the demo": (section("model", name="dem"), ["model.name", "'dem'", "did you mean 'demo'"]),
    "lora rank": (section("model", lora={"r": 0}), ["model.lora", "r 0", "at least 1"]),
    "lora without training": (section("model", lora={"r": 2}), ["model.lora", "trainer.max_epochs"]),
    "lora option": (section("model", lora={"rank": 8}), ["model.lora", "rank"]),
    "seed below 0": (lambda c: c.update(seed_everything=-1), ["seed_everything", "-1"]),
    "devices in words": (section("trainer", devices="many"), ["trainer.devices", "int > 0"]),
    "demonstrations without text": (
        demonstrations(corpus=corpus("mlprune.data.corpora.Bundled", name="nli")),
        ["no column 'text'", "premise, hypothesis"],
    ),
    "seed true": (lambda c: c.update(seed_everything=True), ["seed_everything", "an integer"]),
    "seed in words": (lambda c: c.update(seed_everything="abc"), ["seed_everything", "'abc'", "an integer"]),
    "half a schedule": (
        section("trainer", limit_val_batches=2),
        ["trainer.limit_val_batches", "2", "data.num_prompts"],
    ),
    "no devices": (section("trainer", devices=0), ["trainer", "devices=0"]),
    "no such accelerator": (section("trainer", accelerator="gpuu"), ["accelerator='gpuu'", "cpu"]),
    "a device that is not there": (section("trainer", accelerator="tpu"), ["trainer", "torch_xla"]),
    "a GPU that is not there": (
        section("trainer", accelerator=ABSENT),
        [f"trainer.accelerator {ABSENT}", torch.__version__, "give cpu"],
    ),
    "mixed precision without training": (
        section("trainer", precision="bf16-mixed"),
        ["trainer.precision bf16-mixed", "trainer.max_epochs above 0", "give model.dtype: bfloat16"],
    ),
    "weights converted by the trainer": (
        section("trainer", precision="64-true", max_epochs=1),
        ["trainer.precision 64-true", "give model.dtype: float64"],
    ),
    "spawned processes": (section("trainer", strategy="ddp_spawn", devices=2), ["trainer.strategy", "give ddp"]),
    "split weights": (
        section("trainer", strategy={"class_path": "lightning.pytorch.strategies.ModelParallelStrategy"}),
        ["trainer.strategy ModelParallelStrategy", "tensor_parallel_size auto", "give data_parallel_size: 1"],
    ),
    "split weights of another dtype": (
        split("trainer", precision="bf16-true"),
        ["trainer.precision bf16-true", "give model.dtype: bfloat16"],
    ),
    "split weights and gradients of all": (
        split("pruning", importance={"class_path": "mlprune.pruning.GBLM"}),
        ["trainer.strategy ModelParallelStrategy", "GBLM", "use RegionalGradient"],
    ),
    "split weights and a sweep": (
        split("pruning", sweep=[0.2], propagate="dense"),
        ["study and pruning.sweep need whole weights", "give trainer.strategy auto or ddp"],
    ),
    "flattened weights": (
        section("trainer", strategy="fsdp"),
        ["trainer.strategy fsdp", "give auto, ddp or ModelParallelStrategy", "--pruning.streaming true"],
    ),
    "weights flattened by what is not installed": (
        section("trainer", strategy="deepspeed_stage_3"),
        ["trainer.strategy deepspeed_stage_3", "give auto, ddp or ModelParallelStrategy"],
    ),
    **{
        f"weights flattened by a class, {name}": (
            section("trainer", strategy={"class_path": f"lightning.pytorch.strategies.{name}"}),
            [f"trainer.strategy {name}", "give auto, ddp or ModelParallelStrategy"],
        )
        for name in ("FSDPStrategy", "DeepSpeedStrategy")
    },
    "a strategy that spawns": (section("trainer", strategy="xla"), ["trainer.strategy", "give ddp"]),
    "a strategy's class without its path": (
        section("trainer", strategy="ModelParallelStrategy"),
        ["trainer.strategy", "give lightning.pytorch.strategies.ModelParallelStrategy"],
    ),
    "device_map by part": (
        section("model", device_map={"": 0}),
        ["'model.device_map' is not a key", "ModelParallelStrategy"],
    ),
    "device_map": (
        section("model", device_map="auto"),
        ["'model.device_map' is not a key", "ModelParallelStrategy", "--pruning.streaming true", "configs/README.md"],
    ),
    "tensor parallelism of transformers": (
        section("model", tp_plan="auto"),
        ["'model.tp_plan' is not a key", "ModelParallelStrategy", "configs/README.md"],
    ),
    "dtype by its old name": (section("model", torch_dtype="bfloat16"), ["model.torch_dtype", "give model.dtype"]),
    "strategy": (section("trainer", strategy="ddpp"), ["strategy='ddpp'", "ddp"]),
    "precision": (section("trainer", precision="17"), ["trainer.precision", "'17'", "bf16-mixed"]),
    "epochs without end": (section("trainer", max_epochs=-1), ["trainer.max_epochs -1", "0 or more"]),
    "no such optimizer": (
        section("model", optimizer={"class_path": "torch.optim.AdmW", "init_args": {"lr": 0.1}}),
        ["model.optimizer", "'AdmW'", "torch.optim.AdamW"],
    ),
    "texts of one token": (
        lambda c: c.update(data=c["data"] | {"max_tokens": 1}, trainer=c["trainer"] | {"max_epochs": 1}),
        ["group 'mt'", "max_tokens 1", "give 2"],
    ),
    "more training texts than rows": (
        lambda c: c.update(
            data=c["data"] | {"training": {"mt": demonstrations_of(num_prompts=5000)}},
            trainer=c["trainer"] | {"max_epochs": 1},
        ),
        ["num_prompts 5000", "unused rows"],
    ),
    "epochs in words": (section("trainer", max_epochs="lots"), ["trainer.max_epochs", "'lots'", "an integer"]),
    "logger": (section("trainer", logger="tensorbord"), ["trainer.logger", "tensorbord", "TensorBoardLogger"]),
    "callback": (
        section("trainer", callbacks=[{"class_path": "lightning.pytorch.callbacks.EarlyStoping"}]),
        ["trainer.callbacks", "EarlyStoping", "did you mean 'EarlyStopping'"],
    ),
    "gradual without epochs": (
        section("trainer", callbacks=[{"class_path": "mlprune.callbacks.GradualPruning"}]),
        ["GradualPruning", "trainer.max_epochs"],
    ),
    "a section of text": (lambda c: c.update(pruning="wanda"), ["run.yaml: pruning", "'wanda'", "keys and values"]),
    "an empty section": (lambda c: c.update(pruning=None), ["run.yaml: pruning", "is empty", "keys and values"]),
    "a second seed": (section("data", seed=3), ["data.seed", "seed_everything"]),
    "a task that is nothing": (section("data", tasks=[None]), ["data.tasks", "None", "class_path", "CandidateTask"]),
    "no class_path": (lambda c: c["data"]["tasks"][0].pop("class_path"), ["data.tasks", "class_path", "CandidateTask"]),
    "class_path null": (
        lambda c: c["data"]["tasks"][0].update(class_path=None),
        ["data.tasks", "'class_path': None", "CandidateTask"],
    ),
    "an option beside class_path": (
        section("pruning", pattern={"class_path": "mlprune.pruning.Unstructured", "sparsity": 0.3}),
        ["pruning.pattern", "'sparsity'", "under init_args"],
    ),
    "init_args of text": (
        section("pruning", importance={"class_path": "mlprune.pruning.Wanda", "init_args": "variant"}),
        ["pruning.importance", "mlprune.pruning.Wanda", "init_args are not a mapping"],
    ),
    "an abstract class": (
        section("pruning", importance={"class_path": "mlprune.pruning.Importance"}),
        ["pruning.importance", "abstract", "ContrastiveWanda"],
    ),
    "a corpus without its class": (task(corpus={"name": "nli"}), ["data.tasks.corpus", "Bundled", "LocalFiles"]),
    "misspelt corpus": (
        task(corpus=corpus("mlprune.data.corpora.Bundledd")),
        ["data.tasks.corpus", "Bundledd", "did you mean 'Bundled'"],
    ),
    "a module of the user's that is broken": (
        section("pruning", importance={"class_path": "broken_scores.Loudest"}),
        ["pruning.importance", "broken_scores.Loudest", "nobody thought of this"],
    ),
    "a class of the user's that is broken": (
        section("pruning", importance={"class_path": "own_scores.Broken"}),
        ["own_scores.Broken", "not today"],
    ),
    "a logger that is not installed": (
        section("trainer", logger={"class_path": "lightning.pytorch.loggers.CometLogger"}),
        ["CometLogger", "cannot be used", "comet"],
    ),
    "a callback of another kind": (
        section("trainer", callbacks=[{"class_path": "own_scores.Broken"}]),
        ["trainer.callbacks", "own_scores.Broken", "not a Callback"],
    ),
    "pruning twice": (
        section("trainer", callbacks=[{"class_path": "mlprune.callbacks.PruningCallback"}]),
        ["trainer.callbacks", "PruningCallback", "section pruning"],
    ),
    "no such metric": (
        section("trainer", callbacks=[corpus("lightning.pytorch.callbacks.EarlyStopping", monitor="loss")]),
        ["trainer.callbacks", "'loss'", "fit/loss"],
    ),
    "half a test": (section("trainer", limit_test_batches=2), ["trainer.limit_test_batches 2", "data.limit"]),
    "batches to overfit": (section("trainer", overfit_batches=1), ["trainer.overfit_batches 1", "data.num_prompts"]),
    "steps without epochs": (section("trainer", max_steps=10), ["trainer.max_steps 10", "max_epochs"]),
    "epochs of null": (section("trainer", max_epochs=None), ["trainer.max_epochs null", "give a number"]),
    "no batches to a step": (
        section("trainer", accumulate_grad_batches=0),
        ["trainer.accumulate_grad_batches 0", "at least 1"],
    ),
    "validation within training": (section("trainer", val_check_interval=5), ["trainer.val_check_interval 5"]),
    "learning rate below 0": (
        lambda c: c.update(
            model=c["model"] | {"optimizer": corpus("torch.optim.SGD", lr=-1.0)},
            trainer=c["trainer"] | {"max_epochs": 1},
        ),
        ["model.optimizer", "learning rate", "-1.0"],
    ),
    "learning rate in words": (
        section("model", optimizer=corpus("torch.optim.SGD", lr="fast")),
        ["model.optimizer.lr", "'fast'", "a number"],
    ),
    "attention": (section("model", attn_implementation="flashy"), ["model.name", "flashy", "sdpa"]),
    "include matches nothing": (section("pruning", include=["nope"]), ["include", "'nope'", "model.layers.0"]),
    "nothing left to prune": (section("pruning", exclude=["."]), ["include and exclude", "no layer"]),
    "M that does not divide": (pruning(pattern=("NofM", {"kept": 2, "of": 5})), ["q_proj", "32 inputs", "5"]),
}  # fmt: skip

COMMANDS: dict[str, tuple[list[str], list[str]]] = {
    "nothing": ([], ["no subcommand", "fit, validate, test"]),
    "another subcommand": (["predict", "--config", "CONFIG"], ["'predict'", "fit, validate, test"]),
    "misspelt subcommand": (["tset", "--config", "CONFIG"], ["'tset'", "did you mean 'test'"]),
    "config before the subcommand": (["--config", "CONFIG", "fit"], ["after the subcommand"]),
    "no such config": (["fit", "--config", "nope.yaml"], ["config", "nope.yaml", "does not exist"]),
    "broken YAML": (["fit", "--config", "broken.yaml"], ["--config broken.yaml", "line 2"]),
    "a config that is a list": (["fit", "--config", "list.yaml"], ["--config list.yaml", "keys and values"]),
    "an empty config": (["fit", "--config=empty.yaml"], ["--config empty.yaml", "keys and values"]),
    "a key that is given twice": (["fit", "--config", "twice.yaml"], ["twice.yaml", "'model'", "again in line 3"]),
    "the same by its short flag": (["fit", "-c", "twice.yaml"], ["twice.yaml", "'model'", "again in line 3"]),
    "a section without its keys": (["fit", "--model", "demo"], ["model: 'demo'", "--model.KEY"]),
    "one dash": (["fit", "--config", "CONFIG", "-model.name", "x"], ["'-model.name'", "two dashes"]),
    "an option before its class": (["fit", "--config", "CONFIG", "--pruning.pattern.sparsity", "0.3"],
                                   ["pruning.pattern.sparsity", "no class yet", "Unstructured"]),
    "a value for a class": (["fit", "--config", "CONFIG", "--pruning.pattern", "0.3"],
                            ["pruning.pattern", "'0.3'", "Unstructured"]),
    "a flag for the second seed": (["fit", "--config", "CONFIG", "--data.seed", "3"], ["data.seed", "seed_everything"]),
    "a checkpoint that is none": (["fit", "--config", "CONFIG", "--ckpt_path", "CONFIG"], ["ckpt_path", "run.yaml"]),
    "a checkpoint that runs code": (["fit", "--config", "CONFIG", "--ckpt_path", "hostile.ckpt"], ["hostile.ckpt"]),
    "no model": (["validate"], ["model.name", "required"]),
    "misspelt flag": (["fit", "--config", "CONFIG", "--model.nme", "x"], ["model.nme", "did you mean 'model.name'"]),
    "type of a flag": (
        ["fit", "--config", "CONFIG", "--data.num_prompts", "many"],
        ["data.num_prompts", "'many'", "an integer"],
    ),
    "no such checkpoint": (["fit", "--config", "CONFIG", "--ckpt_path", "none.ckpt"], ["ckpt_path", "none.ckpt"]),
    "nothing to resume": (["fit", "--resume", "nowhere"], ["--resume", "nowhere", "config.yaml"]),
}  # fmt: skip


OWN_SCORES = """
from mlprune.pruning import Wanda

class Broken(Wanda):
    def __init__(self) -> None:
        raise RuntimeError("not today")
"""


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def refused(mlprune, tmp_path: Path, tiny_folder: Path, monkeypatch):
    """Run a wrong command line; it must say one line and never load a model."""

    def never(source: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("mlprune.models.loading.ModelSource.load_model", never)
    (tmp_path / "broken.yaml").write_text("model:\n  name: [x\n data: 3\n")
    (tmp_path / "list.yaml").write_text("- model\n- data\n")
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "twice.yaml").write_text("model: {name: a}\ndata: {num_prompts: 3}\nmodel: {dtype: float32}\n")
    (tmp_path / "broken_scores.py").write_text("raise RuntimeError('nobody thought of this')\n")
    (tmp_path / "own_scores.py").write_text(OWN_SCORES)
    torch.save({"state_dict": Hostile(tmp_path / "ran")}, tmp_path / "hostile.ckpt")
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(arguments: list[str], edit: Callable[[Config], Any], words: list[str]) -> None:
        config = tiny_config(tiny_folder)
        edit(config)
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(config, allow_unicode=True))
        status, out, err = mlprune(*(part.replace("CONFIG", "run.yaml") for part in arguments))
        told = [line for line in err.splitlines() if line.startswith("error: ")]
        assert status == 2
        assert len(told) == 1, err
        assert "Traceback" not in err + out
        for word in words:
            assert word in told[0], told[0]
        assert not (tmp_path / "ran").exists()

    return run


@pytest.mark.parametrize("name", CONFIGS)
def test_wrong_config(name: str, refused) -> None:
    edit, words = CONFIGS[name]
    refused(["fit", "--config", "CONFIG"], edit, words)


@pytest.mark.parametrize("name", COMMANDS)
def test_wrong_command(name: str, refused) -> None:
    arguments, words = COMMANDS[name]
    refused(arguments, lambda config: None, words)


@pytest.mark.parametrize("name", ["nothing", "no such config", "no model"])
def test_from_a_shell(name: str, tmp_path: Path) -> None:
    """Nothing but the line: no usage text, no warning of a library."""
    arguments, words = COMMANDS[name]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "main.py"), *arguments]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.startswith("error: ")
    assert run.stderr.count("\n") == 1
    assert all(word in run.stderr for word in words)
