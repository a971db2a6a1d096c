"""A run is an object: nothing hangs on a trainer, nothing is left on a module, and hooks are those there are."""

import ast
from pathlib import Path

import pytest
from lightning.pytorch import Trainer

from mlprune.callbacks import RunCallback
from mlprune.errors import UserError

PACKAGE = Path(__file__).parents[2] / "mlprune"
ABOVE = [
    *PACKAGE.glob("callbacks/*.py"),
    *PACKAGE.glob("experiments/*.py"),
    *PACKAGE.glob("cli*.py"),
    *PACKAGE.glob("cli/*.py"),
    PACKAGE / "run.py",
    PACKAGE / "module.py",
    PACKAGE / "datamodule.py",
]
OTHERS = {"pl_module", "module", "model", "datamodule", "data", "run", "callback", "engine"}
RUN_FIELDS = {"schedule", "measured", "is_experiment", "is_study", "is_part", "trains", "callbacks", "outcome"}


def written(path: Path) -> list[tuple[str, str]]:
    """What a file assigns to: the name before the last dot, and the attribute."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
        for target in (part for whole in targets if whole is not None for part in ast.walk(whole)):
            if isinstance(target, ast.Attribute) and isinstance(target.ctx, ast.Store):
                owner = ast.unparse(target.value)
                if not owner.startswith("config."):  # settings as parsed, before anything is built of them
                    found.append((owner.rpartition(".")[2], target.attr))
        calls = isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("setattr", "delattr")
        if calls and ast.unparse(node.args[0]) != "cls":  # a class that is being made
            found.append(("setattr", ast.unparse(node)))
    return found


@pytest.mark.parametrize("path", ABOVE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nobody_leaves_attributes_on_somebody_elses_object(path: Path) -> None:
    trainer = Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
    for owner, attribute in written(path):
        assert owner != "setattr", attribute
        if owner == "trainer":
            assert hasattr(trainer, attribute), f"trainer.{attribute} is not Lightning's"
        elif owner == "run":
            assert attribute in RUN_FIELDS, f"run.{attribute} is not declared"
        else:
            assert owner not in OTHERS, f"{owner}.{attribute}"


def test_the_data_module_does_not_reach_for_the_model() -> None:
    assert "lightning_module" not in (PACKAGE / "datamodule.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [*PACKAGE.glob("callbacks/*.py"), *PACKAGE.glob("experiments/*.py")], ids=str)
def test_hooks_are_not_looked_up_by_name(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("hasattr", "getattr"):
            names = [part.value for part in node.args if isinstance(part, ast.Constant)]
            assert not any(str(name).startswith("on_") for name in names), ast.unparse(node)


@pytest.mark.parametrize("name", ["on_blok_pruned", "on_validation_batch_ends", "on_experiment_end"])
def test_a_misspelt_hook_is_an_error_at_once(name: str) -> None:
    with pytest.raises(UserError, match=f"Mine.{name} is not a hook"):
        type("Mine", (RunCallback,), {name: lambda self, *args: None})


def test_hooks_of_lightning_and_of_runs_are_known() -> None:
    hooks = {name: lambda self, *args: None for name in dir(RunCallback) if name.startswith("on_")}
    assert {"on_block_pruned", "on_evaluated", "on_run_end", "on_train_batch_end", "on_exception"} <= set(hooks)
    type("All", (RunCallback,), hooks)
    with pytest.raises(UserError, match="did you mean 'on_block_pruned'"):
        type("Below", (type("All", (RunCallback,), hooks),), {"on_block_prune": None})
