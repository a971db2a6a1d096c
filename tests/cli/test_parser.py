"""What the real parser says about real mistakes, and the one line that becomes of it."""

import re
from typing import Any

import pytest

from mlprune.cli.command import MlpruneCLI
from mlprune.cli.parser import ABOUT_ARGUMENTS, ABOUT_VALUES, OneLineParser, explain
from mlprune.errors import UserError

Heard = dict[str, tuple[str, list[str]]]
TASKS = "give one of ..., CandidateTask, ..., or a class of your own"
SCORES = "give one of ADMM, ..., or a class of your own"

# flags of `validate` (or the whole command line) to the line; `...` stands for any text
LINES: dict[str, str] = {
    "--model.nme x": "'model.nme' is not a key; did you mean 'model.name'?",
    "--modle.name x": "'modle.name' is not a key; did you mean 'model.name'?",
    "--trainer.max_epoch 1": "'trainer.max_epoch' is not a key; did you mean 'trainer.max_epochs'?",
    "--trainer.max_epoch=1": "'trainer.max_epoch' is not a key; did you mean 'trainer.max_epochs'?",
    "--data.num_prompt 3": "'data.num_prompt' is not a key; did you mean 'data.num_prompts'?",
    "--seed 3": "'seed' is not a key...",
    "-model.name x": "'-model.name' is not a flag; flags have two dashes",
    "stray": "'stray' is not a key; did you mean 'study'?",
    "--model.name": "model.name needs a value",
    "--data.seed 3": "data.seed follows seed_everything; give that",
    "--model demo": "model: 'demo' is not allowed; give keys and values, or flags such as --model.KEY VALUE",
    "--config nowhere.yaml": "config: file '...nowhere.yaml' does not exist",
    "--config {a: 1}": "'a' is not a key",
    "--config {model: {nmae: x}}": "'model.nmae' is not a key; did you mean 'model.name'?",
    "--seed_everything -1": "seed_everything: -1 is not allowed; give 0 to 4294967295",
    "--seed_everything true": "seed_everything: give an integer, so that the run can be repeated",
    "--seed_everything abc": "seed_everything: 'abc' is not allowed; give an integer",
    "--data.num_prompts many": "data.num_prompts: 'many' is not allowed; give an integer",
    "--trainer.max_epochs lots": "trainer.max_epochs: 'lots' is not allowed; give an integer",
    "--trainer.limit_val_batches x": "trainer.limit_val_batches: 'x' is not allowed; give an integer or a number",
    "--trainer.precision 17": "trainer.precision: '17' is not allowed; give one of 64, 32, 16, ..., bf16-mixed, ...",
    "--pruning.propagate sparse": "pruning.propagate: 'sparse' is not allowed; give one of pruned, dense, layer",
    "--pruning.include mlp": "pruning.include: 'mlp' is not allowed; give a list",
    "--pruning.sweep [a]": "pruning.sweep: 'a' is not allowed; give a number",
    "--model.lora x": "model.lora: 'x' is not allowed; give a mapping",
    "--data.tasks nowhere.yaml": "data.tasks: file 'nowhere.yaml' does not exist",
    "--config {data: {demonstrations: parts/none.yaml}}": "data.demonstrations: file 'parts/none.yaml' does not exist",
    "--data.tasks {a: 1}": "data.tasks: '{'a': 1}' is not allowed; give a list",
    "--data.tasks [null]": f"data.tasks: None has no class_path; {TASKS}",
    "--data.tasks [{init_args: {name: x}}]": f"data.tasks: {{'init_args': {{'name': 'x'}}}} has no class_path; {TASKS}",
    "--data.tasks [{class_path: null}]": f"data.tasks: 'class_path': None is not a class; {TASKS}",
    "--data.tasks [{class_path: CandidateTask}]": "data.tasks: name, languages, corpus, template is required",
    "--data.tasks+ CandidateTsk": f"data.tasks: class 'CandidateTsk' does not exist; {TASKS}; did you mean '...Task'?",
    "--data.tasks+ Xnli --data.tasks.limit x": "data.tasks.limit: 'x' is not allowed; give an integer",
    "--data.tasks+ Xnli --data.tasks.langs x": "data.tasks: 'langs' is not an option of the class given; it has ...",
    "--data.demonstrations.mt Nope": "data.demonstrations.mt: class 'Nope' does not exist; give one of ...",
    "--pruning.importance Wnda":
        f"pruning.importance: class 'Wnda' does not exist; {SCORES}; did you mean 'Wanda'?",
    "--pruning.importance mlprune.prunin.Wanda": "pruning.importance: class 'mlprune.prunin.Wanda' does not exist; ...",
    "--pruning.importance 0.3": f"pruning.importance: class '0.3' does not exist; {SCORES}",
    "--pruning.importance mlprune.pruning.NofM":
        "pruning.importance: class 'mlprune.pruning.NofM' is not an Importance; ...",
    "--pruning.importance mlprune.pruning.Importance":
        f"pruning.importance: class 'mlprune.pruning.Importance' is abstract, for it lacks methods; {SCORES}",
    "--pruning.importance.variant true":
        f"pruning.importance.variant: pruning.importance has no class yet; {SCORES}",
    "--pruning.importance Wanda --pruning.importance.variant x":
        "pruning.importance.variant: 'x' is not allowed; give true or false",
    "--pruning.importance Wanda --pruning.importance.varint x":
        "pruning.importance: 'varint' is not an option of the class given; it has group, groups, pool, variant; did "
        "you mean 'variant'?",
    "--pruning.importance {class_path: Wanda, init_args: variant}":
        "pruning.importance: class '...Wanda': init_args are not a mapping; give names and values",
    "--pruning.pattern Unstructured": "pruning.pattern: sparsity is required",
    "--pruning.pattern {class_path: mlprune.pruning.Unstructured, sparsity: 0.3}":
        "pruning.pattern: 'sparsity' is not allowed beside class_path; its place is under init_args",
    "--pruning.pattern Unstructured --pruning.pattern.sparsity 0.3 --pruning.pattern.scope col":
        "pruning.pattern.scope: 'col' is not allowed; give one of row, layer",
    "--trainer.callbacks [{class_path: lightning.pytorch.callbacks.EarlyStoping}]":
        "trainer.callbacks: class '...EarlyStoping' does not exist; give one of ...; did you mean 'EarlyStopping'?",
    "--model.optimizer torch.optim.AdmW":
        "model.optimizer: ...AdmW...; give ...",
    "--model.optimizer torch.optim.SGD --model.optimizer.lr fast":
        "model.optimizer.lr: 'fast' is not allowed; give a number",
    "--model.interventions [{class_path: mlprune.interventions.LRP2, init_args: {layers: [0, 1, 2]}}]":
        "model.interventions.layers: '[0, 1, 2]' is not allowed; give a list of 2",
    "--model.interventions [{class_path: mlprune.interventions.LRP2, init_args: {layers: many}}]":
        "model.interventions.layers: 'many' is not allowed; give a list",
    "--model.interventions [{class_path: mlprune.interventions.FeatureAblation, init_args: {features: {x: [0]}}}]":
        "model.interventions.features: 'x' is not allowed; give an integer",
}  # fmt: skip
COMMANDS: dict[str, str] = {
    "": "no subcommand was given; give one of fit, validate, test",
    "tset": "subcommand 'tset' does not exist; give one of fit, validate, test; did you mean 'test'?",
    "--config {model: {name: x}} fit": "--config and other options go after the subcommand: fit, validate or test",
    "validate": "model.name is required",
}


def arguments(line: str) -> list[str]:
    """Split a command line at its blanks, but not within brackets."""
    return re.findall(r"[\[{].*[\]}]|\S+", line)


@pytest.fixture(scope="module")
def parser() -> OneLineParser:
    """The parser of the command line, as it is before it reads anything."""

    class Unread(MlpruneCLI):
        def parse_arguments(self, parser: Any, args: Any) -> None:
            raise _Ready(parser)

    with pytest.raises(_Ready) as ready:
        Unread([])
    return ready.value.args[0]


class _Ready(Exception):
    pass


@pytest.fixture(scope="module")
def heard(parser: OneLineParser) -> Heard:
    """Every command line to the one line it ends in, and to what the parser itself said, from the inside out."""
    said: list[str] = []
    error = OneLineParser.error
    found: Heard = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            OneLineParser, "error", lambda self, message, ex=None: (said.append(message), error(self, message))
        )
        for line in [*COMMANDS, *(f"validate --model.name x {flags}" for flags in LINES)]:
            said.clear()
            try:
                parser.parse_args(arguments(line))
                found[line] = "(taken)", []
            except UserError as refused:
                found[line] = str(refused), list(said)
    return found


@pytest.mark.parametrize("flags", LINES)
def test_flags(heard: Heard, flags: str) -> None:
    assert_reads(heard[f"validate --model.name x {flags}"][0], LINES[flags])


@pytest.mark.parametrize("line", COMMANDS)
def test_commands(heard: Heard, line: str) -> None:
    assert_reads(heard[line][0], COMMANDS[line])


def assert_reads(line: str, expected: str) -> None:
    assert re.fullmatch(re.escape(expected).replace(r"\.\.\.", ".*"), line), line


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in (*ABOUT_ARGUMENTS, *ABOUT_VALUES)])
def test_every_pattern_is_met_by_a_message(heard: Heard, pattern: str) -> None:
    messages = [" ".join(message.split()) for _, said in heard.values() for message in said]
    assert any(re.search(pattern.removeprefix("^"), message) for message in messages)


@pytest.mark.parametrize(
    "message",
    [
        "nobody has\n  thought of\n    this",
        "Parser key of another kind\n  - Expected",
        'Parser key "a.b":\n  Does not validate against any of the Union subtypes\n  Errors:\n  Given value: 3',
        "Expected an instantiatable class, but",
    ],
)
def test_what_no_pattern_knows_is_the_parsers_own_message_on_one_line(message: str) -> None:
    line = explain(message, ["model.name"])
    assert "\n" not in line
    assert set(re.findall(r"\w+", message)) & set(re.findall(r"\w+", line))


def test_an_unknown_message_is_kept_as_it_is() -> None:
    assert explain("nobody has\n  thought of\n\n    this: 3") == "nobody has thought of this: 3"
