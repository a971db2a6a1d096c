"""Turning what the argument parser says into one line that names key, value and what is allowed."""

import inspect
import re
from collections.abc import Iterable
from importlib import import_module
from textwrap import shorten
from typing import Any

from mlprune.errors import did_you_mean

KINDS = {
    "int": "an integer",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "list": "a list",
    "dict": "a mapping",
    "NoneType": "null",
}
NOISE = (
    "Does not validate against",
    "Expected a path but",
    "Expected a <class 'NoneType'>",
    "Expected a <class 'collections",
    "Not a valid subclass of",  # and the ways to write a class, beside the error in the class that was written
    "a class path (str)",
    "a dict with",
)

NOT_A_CLASS = ("Not a valid subclass of", "argument of type")
NO_CLASS = (
    "Expected a dot import path string",
    "Unexpected import path format",
    "Problem with given class_path",
    "Expected an instantiatable class",
)


def one_line(message: str) -> str:
    """Fold a message of several lines into one.

    Example:
        >>> one_line("Parser key 'a':\\n  not allowed\\n")
        "Parser key 'a': not allowed"
    """
    return " ".join(part.strip() for part in message.splitlines() if part.strip())


def plain(message: str, keys: Iterable[str] = ()) -> str:
    """Return a parser's message as one line.

    Args:
        message: What the parser said, in any number of lines.
        keys: Keys that are allowed, for suggestions.

    Example:
        >>> plain('Parser key "data.num_prompts":\\n  Expected a <class \\'int\\'>. Got value: many')
        "data.num_prompts: 'many' is not allowed; give an integer"
        >>> plain("unrecognized arguments: --model.nme x", ["model.name"])
        "'model.nme' is not a key; did you mean 'model.name'?"
    """
    keys = list(keys)
    return _about_keys(message, keys) or _about_values(message)


def _about_keys(message: str, keys: list[str]) -> str | None:
    text = one_line(message)
    if found := re.search(r"unrecognized arguments: (-{0,2})([^\s=]+)", text):
        given, near = found[2], _nearest_key(found[2], keys)
        return (
            f"'{found[1]}{given}' is not a flag; flags have two dashes"
            if given in keys
            else (f"'{given}' is not a key{near}")
        )
    if found := re.search(r'Linked "([^"]+)" must be given via "([^"]+)"', text):
        return f"{found[1]} follows {found[2]}; give that"
    if found := re.search(r'Parser key "(\w+)": Unable to load config "(.*)"', text):
        return f"{found[1]}: '{found[2]}' is not allowed; give keys and values, or flags such as --{found[1]}.KEY VALUE"
    if found := re.search(r"Subcommand '\w+' does not accept option '([^']+)'", text):
        return f"'{found[1]}' is not a key{_nearest_key(found[1], keys)}"
    if found := re.fullmatch(r"(?:Option|Key) '([^']+)' is not (?:accepted|expected)", text):
        known = f"; it has {', '.join(keys)}{did_you_mean(found[1], keys)}" if keys else ""
        return f"'{found[1]}' is not an option of the class given{known}"
    if "is not accepted before subcommand" in text:
        return "--config and other options go after the subcommand: fit, validate or test"
    if found := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", text):
        choices = re.findall(r"'([^']+)'", found[2]) or found[2].split(", ")
        return (
            f"subcommand '{found[1]}' does not exist; give one of {', '.join(choices)}{did_you_mean(found[1], choices)}"
        )
    if 'expected "subcommand"' in text:
        return "no subcommand was given; give one of fit, validate, test"
    if found := re.search(r'Parser key "([^"]+)": File does not exist: (.*)', text):
        return f"{found[1]}: file {found[2]} does not exist"
    if found := re.match(r"the following arguments are required: (.*)", text):
        return f"{re.sub(r'(fit|validate|test)[.]', '', found[1])} is required"
    if found := re.search(r"Call to compute_fn of link .* failed: (.*)", text):
        return found[1]
    return None


def _nearest_key(given: str, keys: list[str]) -> str:
    """Suggest a key, by its whole name or by its last part within the same section."""
    section, _, last = given.rpartition(".")
    near = did_you_mean(last, [key.rpartition(".")[2] for key in keys if key.rpartition(".")[0] == section])
    return near.replace("'", f"'{section}.", 1) if near and section else did_you_mean(given, keys)


def _about_values(message: str) -> str:
    key = ""
    if found := re.match(r'\s*Parser key "([^"]+)":\s*', message):
        key, message = found[1], message[found.end() :]
    value = _given_value(message)
    base = _base_class(message)
    bullets = _bullets(message) or [one_line(message)]
    if base is not None and bullets[0].startswith(NOT_A_CLASS):
        given = re.search(r"Got value: (.*?) Subclass types", bullets[0]) or re.search(r"('class_path': \w+)", value)
        told = shorten(given[1] if given else value, 80, placeholder="...")
        return f"{key}: {told} names no class by class_path{_allowed_classes('', base)}"
    telling = [bullet for bullet in bullets if not bullet.startswith(NOISE)] or bullets[-1:]
    named = [bullet for bullet in telling if bullet.startswith(NO_CLASS)]
    others = [bullet for bullet in telling if bullet not in named]
    expected = [found[1] for bullet in others if (found := re.fullmatch(r"Expected an? (.*?)\.?", bullet))]
    if named and expected and base is None and "." not in value:
        return _refused(key, value, expected)  # a plain value was wanted, of which a class may take the place
    if named:
        return _about_class(key, named[0], value, base)
    if len(expected) == len(telling):
        return _refused(key, value, expected)
    telling = [bullet for bullet in telling if not re.fullmatch(r"Expected an? <class '\w+'>", bullet)]
    told = _about_one(key, telling[-1], base)
    own = re.search(r"class_path(?:=|': )'([^']+)'", value)
    unexplained = told in (telling[-1], f"{key}: {telling[-1]}")
    if unexplained and own and not own[1].startswith(("mlprune.", "lightning.")):
        return told.removesuffix(telling[-1]) + f"class '{own[1]}': {telling[-1]}"  # what a class of the user's raised
    return told


def _about_class(key: str, text: str, value: str, base: type | None) -> str:
    """Explain why a class could not be found or made."""
    prefix = f"{key}: " if key else ""
    if found := re.match(r"Problem with given class_path '([^']+)': (.*)", text):
        name, reason = found[1], found[2]
        if "has no attribute 'keys'" in reason:
            return f"{prefix}class '{name}': init_args are not a mapping; give names and values"
        missing = re.fullmatch(r"No module named '([^']+)'", reason)
        if (not missing and not reason.startswith("module ")) or (
            missing and not f"{name}.".startswith(f"{missing[1]}.")
        ):
            return f"{prefix}class '{name}' cannot be used: {reason}"
        return f"{prefix}class '{name}' does not exist{_allowed_classes(name, base)}"
    if found := re.match(r"(?:Expected a dot import path string|Unexpected import path format): (.*)", text):
        return f"{prefix}class '{found[1]}' does not exist{_allowed_classes(found[1], base)}"
    if found := re.match(r"NestedArg\(key='([^']+)'", value):
        return f"{key}.{found[1]}: {key} has no class yet{_allowed_classes('', base)}"
    name = text.split()[-3]  # Expected an instantiatable class, but NAME is abstract
    if beside := [word for word in re.findall(r"[{,] ?'(\w+)': ", value) if word not in ("class_path", "init_args")]:
        return f"{prefix}'{beside[0]}' is not allowed beside class_path; its place is under init_args"
    return f"{prefix}class '{name}' is abstract, for it lacks methods{_allowed_classes('', base or _class_of(name))}"


def _about_one(key: str, text: str, base: type | None) -> str:
    """Explain the one error that matters."""
    prefix = f"{key}: " if key else ""
    if found := re.match(r'Parser key "([^"]+)": (.*)', text):
        inner = f"{key}.{found[1]}" if key else found[1]
        if told := re.fullmatch(r"Expected an? (.*?)\. Got value: (.*)", found[2]):
            return _refused(inner, told[2], [told[1]])
        return f"{inner}: {found[2]}"
    if found := re.fullmatch(r"Expected an? (.*?)\. Got value: (.*)", text):
        return _refused(key, found[2], [found[1]])
    if text.startswith(NO_CLASS):
        return _about_class(key, text, "", base)
    if found := re.match(r"Import path (\S+) does not correspond to a subclass of (\w+)", text):
        return f"{prefix}class '{found[1]}' is not a {found[2]}{_allowed_classes('', base)}"
    if found := re.match(r"the following arguments are required: (.*)", text):
        return f"{prefix}{found[1]} is required"
    if found := re.match(r"Type typing.Callable.* expects a function or a callable class: (.*?)\. Got value: ", text):
        return f"{prefix}{found[1]}; give a class_path with init_args, such as torch.optim.AdamW with lr"
    if not key or text.startswith(key):
        return text
    return (
        f"{key}.{text}" if re.match(r"[a-z]\w*: (?:class )?'", text) else f"{prefix}{text}"
    )  # an option of the class given


def _refused(key: str, value: str, expected: list[str]) -> str:
    allowed: list[str] = []
    for kind in expected:
        if found := re.search(r"Literal\[(.*)\]", kind):
            allowed += [choice.strip("' ") for choice in found[1].split(",")]
        elif found := re.search(r"<class '([\w.]+)'>", kind):
            allowed.append(KINDS.get(found[1], found[1].rpartition(".")[2]))
        else:
            allowed.append(kind)
    allowed = [kind for kind in dict.fromkeys(allowed) if (key, kind) != ("seed_everything", "true or false")]
    several = "one of " if any("Literal" in kind for kind in expected) and len(allowed) > 1 else ""
    joined = ", ".join(allowed) if several else " or ".join(allowed)
    return f"{key}: '{value}' is not allowed; give {several}{joined}{did_you_mean(value, allowed)}"


def _bullets(message: str) -> list[str]:
    """The items of the parser's nested list of errors, each on one line."""
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
    return items


def _given_value(message: str) -> str:
    found = re.findall(r"(?:Given value|Got value): (.*)", message)
    return found[0].strip() if found else ""


def _base_class(message: str) -> type | None:
    """The innermost of our classes that the parser expected, such as Importance."""
    found = re.findall(
        r"(mlprune(?:\.\w+)+|lightning(?:\.\w+)+)", "".join(re.findall(r"Subtypes: \[(.*)\]", message)[-1:])
    )
    return next((candidate for path in found if (candidate := _class_of(path)) is not None), None)


def _class_of(path: str) -> type | None:
    module, _, name = path.rpartition(".")
    candidate: Any = getattr(import_module(module), name, None)
    return candidate if isinstance(candidate, type) else None


def _subclasses(base: type | None) -> list[type]:
    if base is None:
        return []
    return [base, *(cls for child in base.__subclasses__() for cls in _subclasses(child))]


def _allowed_classes(given: str, base: type | None) -> str:
    module, _, last = given.rpartition(".")
    if base is None:
        return f"; give its import path{did_you_mean(last, _classes_of(module))}"
    public = [cls for cls in _subclasses(base) if not cls.__name__.startswith("_") and not inspect.isabstract(cls)]
    names = sorted({cls.__name__ for cls in public if cls.__module__.startswith(str(base.__module__).split(".")[0])})
    hint = did_you_mean(last, names)
    return f"; give one of {', '.join(names)}, or a class of your own{hint}"


def _classes_of(module: str) -> list[str]:
    """The classes of a module, if there is such a module."""
    try:
        return [name for name, value in vars(import_module(module)).items() if isinstance(value, type)]
    except (ImportError, ValueError):
        return []
