"""The argument parser, whose errors are one line, and everything that depends on jsonargparse's internals.

Its errors are prose over several lines. The tables below read them: a pattern, and what to say in its place. A message
that no pattern knows, of another release say, is shown as the parser wrote it, on one line.
"""

import re
from argparse import SUPPRESS, _HelpAction
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from textwrap import shorten
from typing import Any, NoReturn

from jsonargparse import _typehints
from lightning.pytorch.cli import LightningArgumentParser

from mlprune.cli.classes import allowed_classes, class_of
from mlprune.cli.foreign import named_here
from mlprune.errors import UserError, did_you_mean, one_line

NOUNS = {
    "int": "an integer",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
    "NoneType": "null",
}


class OneLineParser(LightningArgumentParser):
    """A parser whose errors are one line, without usage text, and that takes no flag by its first letters."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False} | kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UserError(explain(message, _keys(self)))

    def instantiate(self, *args: Any, **kwargs: Any) -> Any:
        """Build what was parsed; what a class refuses is explained as the parser's own errors are."""
        try:
            return super().instantiate(*args, **kwargs)
        except ValueError as error:
            raise UserError(explain(str(error), _keys(self))) from error

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """The help, in which the trainer's many options come after those of this package."""
        groups = self._action_groups
        self._action_groups = sorted(
            groups, key=lambda group: any(each.dest == "trainer" for each in group._group_actions)
        )
        return str(super().format_help(*args, **kwargs))


class ActionTakenBefore(_HelpAction):  # which jsonargparse leaves out of what it parses
    """An option that stands in the help, but that is taken off the command line before the parser sees it."""

    def __init__(
        self, option_strings: list[str], dest: str = SUPPRESS, help: str | None = None, metavar: str | None = None
    ) -> None:
        super().__init__(option_strings, dest=SUPPRESS, help=help)
        self.nargs, self.metavar = None if metavar else 0, metavar


def _copy(value: Any) -> Any:
    """Copy what jsonargparse gives to an element of a list, without the whole list, so that long ones stay linear."""
    if isinstance(value, dict) and {"prev_val", "orig_val", "sub_add_kwargs"} <= value.keys():
        return {**value, "sub_add_kwargs": deepcopy(value["sub_add_kwargs"])}
    return deepcopy(value)


if hasattr(_typehints, "deepcopy"):
    vars(_typehints)["deepcopy"] = _copy


def _keys(parser: LightningArgumentParser) -> list[str]:
    """The keys that a parser and its subcommands take."""
    action = parser._subcommands_action
    parsers = [parser, *(dict(action.choices).values() if action is not None else [])]
    names = {action.dest for each in parsers for action in each._actions}
    return sorted(name for name in names if name.rpartition(".")[2] not in ("help", "print_config", "config"))


def explain(message: str, keys: Iterable[str] = ()) -> str:
    """Return a parser's message as one line that names key, value and what is allowed.

    Args:
        message: What the parser said, in any number of lines.
        keys: Keys that are allowed, for suggestions.

    Example:
        >>> explain('Parser key "data.num_prompts":\\n  Expected a <class \\'int\\'>. Got value: many')
        "data.num_prompts: 'many' is not allowed; give an integer"
        >>> explain("unrecognized arguments: --model.nme x", ["model.name"])
        "'model.nme' is not a key; did you mean 'model.name'?"
        >>> explain("nobody\\n  thought of this")
        'nobody thought of this'
    """
    keys, text = list(keys), one_line(message)
    try:
        for pattern, say in ABOUT_ARGUMENTS:
            if found := re.search(pattern, text):
                return say(found, keys)
        return _about_value(_read(message))
    except Exception:  # prose that matched a pattern by mistake
        return text


# -- which key: a pattern, and what to say given the match and the keys there are ----------------------------------


def _unknown_flag(found: re.Match[str], keys: list[str]) -> str:
    dashes, given = found.groups()
    if given in keys:
        return f"'{dashes}{given}' is not a flag; flags have two dashes"
    return _unknown_key(given, keys)


def _unknown_key(given: str, keys: list[str]) -> str:
    """Suggest a key, by what transformers calls it, its whole name or its last part within the same section."""
    if instead := named_here(given):
        return f"'{given}' is not a key{instead}"
    section, _, last = given.rpartition(".")
    near = did_you_mean(last, [key.rpartition(".")[2] for key in keys if key.rpartition(".")[0] == section])
    near = near.replace("'", f"'{section}.", 1) if near and section else did_you_mean(given, keys)
    return f"'{given}' is not a key{near}"


def _unknown_option(found: re.Match[str], keys: list[str]) -> str:
    known = f"; it has {', '.join(keys)}{did_you_mean(found[1], keys)}" if keys else ""
    return f"'{found[1]}' is not an option of the class given{known}"


def _not_accepted(found: re.Match[str], keys: list[str]) -> str:
    kind, place, option = found.groups()
    return _unknown_key(option if kind == "Subcommand" else f"{place}.{option}", keys)


def _unknown_subcommand(found: re.Match[str], keys: list[str]) -> str:
    choices = re.findall(r"'([^']+)'", found[2]) or found[2].split(", ")
    return f"subcommand '{found[1]}' does not exist; give one of {', '.join(choices)}{did_you_mean(found[1], choices)}"


ABOUT_ARGUMENTS: tuple[tuple[str, Callable[[re.Match[str], list[str]], str]], ...] = (
    (r"unrecognized arguments: (-{0,2})([^\s=]+)", _unknown_flag),
    (r"(Subcommand|Group) '(\w+)' does not accept option '([^']+)'", _not_accepted),
    (r"^(?:Option|Key) '([^']+)' is not (?:accepted|expected)$", _unknown_option),
    (r"^argument -*(\S+): expected one argument", lambda found, keys: f"{found[1]} needs a value"),
    (r"invalid choice: '([^']*)' \(choose from (.*)\)", _unknown_subcommand),
    (
        r'expected "subcommand" to be one of \{(.*?)\}',
        lambda found, keys: f"no subcommand was given; give one of {found[1].replace(',', ', ')}",
    ),
    (
        r"is not accepted before subcommand",
        lambda found, keys: "--config and other options go after the subcommand: fit, validate or test",
    ),
    (r'Linked "([^"]+)" must be given via "([^"]+)"', lambda found, keys: f"{found[1]} follows {found[2]}; give that"),
    (
        r'Parser key "(\w+)": Unable to load config "(.*)"',
        lambda found, keys: (
            f"{found[1]}: '{found[2]}' is not allowed; give keys and values, or flags such as --{found[1]}.KEY VALUE"
        ),
    ),
    (
        r'Parser key "([^"]+)": File does not exist: (.*)',
        lambda found, keys: f"{found[1]}: file {found[2]} does not exist",
    ),
    (
        r"^the following arguments are required: (.*)",
        lambda found, keys: f"{re.sub(r'(fit|validate|test)[.]', '', found[1])} is required",
    ),
    (r"Call to compute_fn of link .* failed: (.*)", lambda found, keys: found[1]),
)


# -- which value: a pattern over one error, and what to say given the refusal and the match -------------------------


@dataclass(frozen=True)
class _Refusal:
    """What the parser said about a value: its errors, each on a line, one for each type that it tried."""

    key: str
    value: str
    errors: list[str]
    base: type | None  # the class of ours, or Lightning's, that could stand there

    @property
    def prefix(self) -> str:
        return f"{self.key}: " if self.key else ""


def _read(message: str) -> _Refusal:
    key = ""
    if found := re.match(r'\s*Parser key "([^"]+)":\s*', message):
        key, message = found[1], message[found.end() :]
    values = re.findall(r"(?:Given value|Got value): (.*)", message)
    types = "".join(re.findall(r"Subtypes: \[(.*)\]", message)[-1:])
    paths = re.findall(r"(mlprune(?:\.\w+)+|lightning(?:\.\w+)+)", types)
    base = next((cls for path in paths if (cls := class_of(path)) is not None), None)
    return _Refusal(key, values[0].strip() if values else "", _errors(message), base)


def _errors(message: str) -> list[str]:
    """The items of the parser's nested list of errors, each on one line; the message itself if it is not a list."""
    items: list[str] = []
    inside = False
    for line in message.splitlines():
        text = line.strip()
        if text.startswith("- "):
            items.append(text[2:])
            inside = True
        elif text.startswith(("Given value", "Subtypes:", "Errors:")):
            inside = False
        elif inside and text:
            items[-1] += f" {text}"
    return items or [one_line(message)]


NO_CLASS_PATH = ("Not a valid subclass of", "argument of type")
NO_FILE = "Expected a path but"
FILES = (".yaml", ".yml", ".json")
HEADINGS = ("Does not validate against", NO_FILE)
NOISE = (  # about types that the user did not mean
    "Expected a <class 'NoneType'>",
    "Expected a <class 'collections",
    "Not a valid subclass of",
    "a class path (str)",
    "a dict with",
)


def _about_value(refusal: _Refusal) -> str:
    """Choose the most informative error, and explain it."""
    if refusal.value.endswith(FILES) and any(error.startswith(NO_FILE) for error in refusal.errors):
        return f"{refusal.prefix}file '{refusal.value}' does not exist"
    errors = [error for error in refusal.errors if not error.startswith(HEADINGS)] or refusal.errors
    if refusal.base is not None and errors[0].startswith(NO_CLASS_PATH):
        return _no_class_path(refusal, errors[0])
    errors = [error for error in errors if not error.startswith(NOISE)] or errors[-1:]
    classes = [error for error in errors if re.match(NO_SUCH_CLASS, error)]
    others = [error for error in errors if error not in classes]
    expected = [found[1] for error in others if (found := re.fullmatch(r"Expected an? (.*?)\.?", error))]
    if classes and expected and refusal.base is None and "." not in refusal.value:
        return _refused(refusal.key, refusal.value, expected)  # a plain value; a class may take its place
    if classes:
        return _about_error(refusal, classes[0])
    if len(expected) == len(errors):
        return _refused(refusal.key, refusal.value, expected)
    unexpected = [error for error in errors if not re.fullmatch(r"Expected an? <class '\w+'>", error)]
    return _about_error(refusal, unexpected[-1])


def _about_error(refusal: _Refusal, error: str) -> str:
    for pattern, say in ABOUT_VALUES:
        if found := re.match(pattern, error):
            return say(refusal, found)
    users = re.search(r"class_path(?:=|': )'([^']+)'", refusal.value)
    if users and not users[1].startswith(("mlprune.", "lightning.")):  # what a class of the user's raised
        return f"{refusal.prefix}class '{users[1]}': {error}"
    if refusal.key == "config" and re.match(r"[\w.]+: ", error):  # within the file, explained already
        return error
    if refusal.key and re.match(r"[a-z]\w*: (?:class )?'", error):  # an option of the class given, explained already
        return f"{refusal.key}.{error}"
    return error if not refusal.key or error.startswith(refusal.key) else f"{refusal.prefix}{error}"


def _refused(key: str, value: str, expected: list[str]) -> str:
    allowed: list[str] = []
    for kind in expected:
        if found := re.search(r"Literal\[(.*)\]", kind):
            allowed += [choice.strip("' ") for choice in found[1].split(",")]
        elif found := re.search(r"<class '([\w.]+)'>", kind):
            allowed.append(NOUNS.get(found[1], found[1].rpartition(".")[2]))
        elif found := re.fullmatch(r"tuple with (\d+) elements?", kind):
            allowed.append(f"a list of {found[1]}")
        else:
            allowed.append(kind)
    allowed = [noun for noun in dict.fromkeys(allowed) if (key, noun) != ("seed_everything", "true or false")]
    nouns = list(NOUNS.values())  # Python gives the types of a union in an order of its own
    allowed.sort(key=lambda noun: nouns.index(noun) if noun in nouns else len(nouns))
    choice = any("Literal" in kind for kind in expected) and len(allowed) > 1
    joined = f"one of {', '.join(allowed)}" if choice else " or ".join(allowed)
    return f"{key}: '{value}' is not allowed; give {joined}{did_you_mean(value, allowed)}"


def _no_class_path(refusal: _Refusal, error: str) -> str:
    allowed = allowed_classes("", refusal.base)
    if found := re.search(r"'class_path': \w+", refusal.value):
        return f"{refusal.prefix}{found[0]} is not a class{allowed}"
    found = re.search(r"Got value: (.*?) Subclass types", error)
    given = shorten(found[1] if found else refusal.value, 80, placeholder="...")
    return f"{refusal.prefix}{given} has no class_path{allowed}"


def _class_problem(refusal: _Refusal, found: re.Match[str]) -> str:
    name, reason = found.groups()
    if "has no attribute 'keys'" in reason:
        return f"{refusal.prefix}class '{name}': init_args are not a mapping; give names and values"
    missing = re.fullmatch(r"No module named '([^']+)'", reason)
    if (missing and f"{name}.".startswith(f"{missing[1]}.")) or reason.startswith("module "):
        return _no_such_class(refusal, name)
    return f"{refusal.prefix}class '{name}' cannot be used: {reason}"


def _no_such_class(refusal: _Refusal, name: str) -> str:
    if found := re.match(r"NestedArg\(key='([^']+)'", refusal.value):
        refusal = _Refusal(f"{refusal.key}.{found[1]}", refusal.value, refusal.errors, refusal.base)
    return f"{refusal.prefix}class '{name}' does not exist{allowed_classes(name, refusal.base)}"


def _abstract(refusal: _Refusal, found: re.Match[str]) -> str:
    if nested := re.match(r"NestedArg\(key='([^']+)'", refusal.value):
        key = refusal.key
        return f"{key}.{nested[1]}: {key} has no class yet{allowed_classes('', refusal.base)}"
    names = re.findall(r"[{,] ?'(\w+)': ", refusal.value)
    if beside := [name for name in names if name not in ("class_path", "init_args")]:
        return f"{refusal.prefix}'{beside[0]}' is not allowed beside class_path; its place is under init_args"
    name = found[1] or refusal.value
    allowed = allowed_classes("", refusal.base or class_of(name))
    return f"{refusal.prefix}class '{name}' is abstract, for it lacks methods{allowed}"


def _other_class(refusal: _Refusal, found: re.Match[str]) -> str:
    name = found[1] or refusal.value
    article = "an" if found[2][0] in "AEIOU" else "a"
    return f"{refusal.prefix}class '{name}' is not {article} {found[2]}{allowed_classes('', refusal.base)}"


def _within(refusal: _Refusal, found: re.Match[str]) -> str:
    key = f"{refusal.key}.{found[1]}" if refusal.key else found[1]
    if expected := re.fullmatch(r"Expected an? (.*?)\. Got value: (.*)", found[2]):
        return _refused(key, expected[2], [expected[1]])
    return f"{key}: {found[2]}"


NO_SUCH_CLASS = (
    "Expected a dot import path string|Unexpected import path format|Problem with given class_path|"
    "Expected an instantiatable class"
)
ABOUT_VALUES: tuple[tuple[str, Callable[[_Refusal, re.Match[str]], str]], ...] = (
    (r"Problem with given class_path '([^']+)': (.*)", _class_problem),
    (
        r"(?:Expected a dot import path string|Unexpected import path format): (.*)",
        lambda refusal, found: _no_such_class(refusal, found[1]),
    ),
    (r"Expected an instantiatable class, but ?(\S*) is abstract", _abstract),
    (r"Import path ?(\S*) does not correspond to a subclass of (\w+)", _other_class),
    (r'Parser key "([^"]+)": (.*)', _within),
    (
        r"Expected an? (.*?)\. Got value: (.*)$",
        lambda refusal, found: _refused(refusal.key, found[2], [found[1]]),
    ),
    (
        r"(\w+): invalid literal for int\(\) with base 10: '(.*)'",  # a key of a mapping
        lambda refusal, found: _refused(f"{refusal.key}.{found[1]}", found[2], ["<class 'int'>"]),
    ),
    (
        r"the following arguments are required: (.*)",
        lambda refusal, found: f"{refusal.prefix}{found[1]} is required",
    ),
    (
        r"Type typing.Callable.* expects a function or a callable class: (.*?)\. Got value: ",
        lambda refusal, found: (
            f"{refusal.prefix}{found[1]}; give a class_path with init_args, such as torch.optim.AdamW with lr"
        ),
    ),
)
