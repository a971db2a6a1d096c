"""One command for everything: what it lists, finds by name and refuses, without loading torch before it must."""

import importlib
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from mlprune.cli import main
from mlprune.cli.catalog import Catalog
from mlprune.cli.commands import SUMMARIES, TOOLS, tool
from mlprune.cli.listing import CLASSES, EVERYWHERE, KEYS, listing
from mlprune.cli.packaged import config_line, config_names, configs_folder, copy_config, find_config
from mlprune.errors import UserError

ROOT = Path(__file__).parents[2]
CATALOG = Catalog()
LISTED = [(kind, entry.name) for kind in CLASSES for entry in CATALOG.concrete(CLASSES[kind])]


@pytest.mark.parametrize("args", [["--help"], ["-h"], ["--version"], ["list"], ["list", "tasks", "Xnli"]], ids=" ".join)
def test_answers_without_torch(args: list[str]) -> None:
    code = (
        "import atexit, sys; from mlprune.cli import main; heavy = {'torch', 'lightning', 'transformers'}; "
        "atexit.register(lambda: print(*heavy & set(sys.modules), file=sys.stderr, end='')); "
        "sys.exit(main(sys.argv[1:]))"
    )
    run = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, cwd=ROOT)
    assert (run.returncode, run.stderr) == (0, "")
    assert len(run.stdout.strip()) > 10


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines if line.startswith("  ") and line.split()} >= set(SUMMARIES)


def test_module_and_script_name_themselves(tmp_path: Path) -> None:
    for command, name in (
        ([sys.executable, "-m", "mlprune"], "python -m mlprune"),
        ([sys.executable, ROOT / "main.py"], f"python {ROOT / 'main.py'}"),
    ):
        run = subprocess.run(
            [*command, "list"], capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}
        )
        assert run.stdout.splitlines()[-1] == f"{name} list KIND [NAME] shows them."


@pytest.mark.parametrize("name", TOOLS)
def test_tools_have_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        tool(name)(["--help"])
    assert end.value.code == 0
    assert f" {name} " in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ([], "no subcommand was given; give one of fit, validate, test, list"),
        (["fitt"], "subcommand 'fitt' does not exist; give one of fit, "),
        (["list", "task"], "list: 'task' does not exist; give one of configs, tasks"),
        (["list", "tasks", "Xnly"], "list tasks: 'Xnly' does not exist; did you mean 'Xnli'?"),
        (["list", "tasks", "--copy", "demo"], "--copy goes with configs"),
        (["list", "configs", "--copy", "dem"], "config 'dem' does not exist; did you mean 'demo'?"),
        (
            ["fit", "--config", "dem"],
            "--config: file 'dem' does not exist, and no packaged config has that name; did you mean 'demo'?",
        ),
        (["fit", "--config=nothing"], "list configs` shows them"),
        (["fit", "--model.name", "no/such"], "data.tasks: no tasks were given; start from a config"),
        (["test", "--model.name", "no/such"], "data.tasks: no tasks were given; start from a config"),
    ],
)
def test_refused_in_one_line(
    args: list[str], told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert told in captured.err
    assert len(captured.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", KEYS)
def test_every_kind_is_listed_with_a_line_each(kind: str) -> None:
    rows = listing(kind).splitlines()
    assert len(rows) >= 1
    for row in rows:
        name, text = row.split(maxsplit=1)
        assert len(text) > 5, row
    assert listing(kind, name)


@pytest.mark.parametrize(("kind", "name"), LISTED, ids=lambda value: value)
def test_what_is_listed_of_a_class_is_true(kind: str, name: str) -> None:
    module, _, _ = CATALOG.classes[name].path.rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    listed = {argument.name: argument for argument in CATALOG.arguments(name)}
    real = inspect.signature(cls).parameters
    kept = [key for key, own in real.items() if own.kind not in (own.VAR_KEYWORD, own.VAR_POSITIONAL)]
    assert set(kept) <= set(listed)
    for key in kept:
        assert (listed[key].default is None) == (real[key].default is inspect.Parameter.empty)


def test_callbacks_of_every_run_are_not_offered(tiny_folder: Path, tmp_path: Path) -> None:
    from mlprune import Engine
    from mlprune.callbacks import RunCallback

    engine = Engine(str(tiny_folder), default_root_dir=tmp_path)
    always = {type(callback).__name__ for callback in engine.run.callbacks if isinstance(callback, RunCallback)}
    assert always | {"ProgressDisplay"} == EVERYWHERE  # which the command line adds
    assert not EVERYWHERE & {row.split()[0] for row in listing("callbacks").splitlines()}


def test_configs_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"demo", "paper/xglm-2.9b.fr-en", "paper/controls/random"} <= set(config_names())
    assert not any("fragments" in name for name in config_names())
    for name in config_names():
        assert config_line(name), f"{name}: its second line says what it is"
        assert Path(find_config(name)) == configs_folder() / f"{name}.yaml"
    monkeypatch.chdir(tmp_path)
    assert find_config("configs/demo.yaml") == str(configs_folder() / "demo.yaml")  # as the docs write it
    Path("demo").write_text("model: {name: mine}")
    assert find_config("demo") == "demo"  # a path that exists wins


@pytest.mark.parametrize("command", TOOLS)
def test_wrong_arguments_are_one_line(command: str, mlprune, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as end:
        mlprune(command, "--nonsense")
    err = capsys.readouterr().err
    assert end.value.code == 2
    assert err.startswith("error: ")
    assert err.endswith(f"; `python main.py {command} --help` explains them\n")
    assert err.count("\n") == 1


def test_any_tag_is_a_language_that_can_be_shown() -> None:
    assert listing("languages", "pt-BR") == "pt-BR: Portuguese (Brazil) (por_Latn)"
    assert listing("languages", "zh") == "zh: Chinese (zho_Hans, cmn_Hans)"
    with pytest.raises(UserError, match="language 'french' is not known"):
        listing("languages", "french")


@pytest.mark.parametrize("flag", [["--config", "mine.yaml"], ["--config=mine.yaml"]])
def test_a_flag_wins_over_a_file_wherever_it_stands(flag: list[str], mlprune, capsys: pytest.CaptureFixture) -> None:
    Path("mine.yaml").write_text("{model: {name: demo}, data: {num_prompts: 7}}")
    with pytest.raises(SystemExit):
        mlprune("fit", "--data.num_prompts", "9", *flag, "--model.name", "theirs", "--print_config")
    found = yaml.safe_load(capsys.readouterr().out)
    assert (found["model"]["name"], found["data"]["num_prompts"]) == ("theirs", 9)


def test_a_copied_config_is_whole(tmp_path: Path, mlprune) -> None:
    written = copy_config("paper/mgpt.fr-en", tmp_path / "mine")
    assert written[0] == tmp_path / "mine" / "mgpt.fr-en.yaml"
    assert mlprune("fit", "--config", written[0], "--config", "paper/controls/random")[0] == 2  # but for the hub
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "fragments").mkdir()
    (tmp_path / "two" / "fragments" / "tasks.yaml").write_text("mine")
    with pytest.raises(UserError, match="is there already; nothing was copied"):
        copy_config("paper/mgpt.fr-en", tmp_path / "two")
    assert not (tmp_path / "two" / "mgpt.fr-en.yaml").exists()


def test_pyproject_lists_every_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "mlprune").rglob("__init__.py")}
    assert set(settings["packages"]) == found | {"mlprune.configs"}
    assert settings["package-dir"]["mlprune.configs"] == configs_folder().name


def test_help_of_fit_begins_with_our_sections(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    text = capsys.readouterr().out
    places = [text.index(f"\n  --{name} ") for name in ("resume", "model", "data", "pruning", "trainer")]
    assert places == sorted(places)
    assert text.index("--trainer.model_registry") > text.index("--pruning.pattern")


def test_as_many_prompts_as_there_are_rows_for(mlprune, tiny_folder: Path) -> None:
    status, _, err = mlprune("validate", "--model.name", tiny_folder)
    assert status == 0, err
    assert "data, group 'mt': 60 prompts, as many as the corpus has rows for" in err


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    command = f"{sys.executable} -m mlprune list languages | head -1"
    run = subprocess.run(
        command,
        shell=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/bin:/usr/bin"},
    )
    assert run.stderr == ""
