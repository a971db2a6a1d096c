"""``mlprune push RUN --repo NAME``: a run's pruned model to the Hugging Face hub, with its card and mlprune.json."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlprune.arguments import Arguments
from mlprune.errors import UserError, first_line

PRUNED, UNFINISHED, CARD, RECIPE = "pruned", ".unfinished", "README.md", "mlprune.json"


def main(args: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = Arguments("push", "Upload a run's pruned model to the Hugging Face hub, in one commit.")
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run of fit or validate, or its pruned model")
    parser.add_argument("--repo", required=True, metavar="NAME", help="OWNER/NAME, or NAME for one of your own")
    parser.add_argument("--public", action="store_true", help="everybody sees a repository that is made now")
    arguments = parser.parse_args(args)
    print(push(arguments.run, arguments.repo, arguments.public))
    return 0


def push(run: Path, repo: str, public: bool = False) -> str:
    """Upload a pruned model and return the address of the commit.

    Args:
        run: Folder of a run, or of its pruned model.
        repo: Repository on the hub, which is made, privately, if it does not exist.
        public: Make it publicly.

    Raises:
        UserError: If there is no complete pruned model, the name is not allowed, or the hub refuses.
    """
    folder = checked_folder(run)
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HFValidationError

    api = HfApi()
    try:
        address = api.create_repo(repo, private=not public, exist_ok=True)
        operations = [
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)
            for name, content in files_of(folder, address.repo_id)
        ]
        commit = api.create_commit(address.repo_id, operations, commit_message="Pruned model, written by mlprune")
    except HFValidationError as error:
        raise UserError(f"--repo '{repo}' is not allowed: {first_line(error)}") from error
    except Exception as error:  # the client's own, the system's, and those of whichever HTTP library it uses
        raise UserError(f"--repo '{repo}': the hub refused: {first_line(error)}{_remedy(error)}") from error
    return str(commit.commit_url)


def checked_folder(run: Path) -> Path:
    """Return the folder of a run's pruned model, which is whole.

    Raises:
        UserError: If there is none.
    """
    if (run / UNFINISHED).is_dir():
        raise UserError(f"'{run}' is not finished; resume it with --resume before it is pushed")
    folder = run / PRUNED if (run / PRUNED).is_dir() else run
    for name in ("config.json", RECIPE, CARD):
        if not (folder / name).is_file():
            raise UserError(
                f"'{run}' has no pruned model to push ({name} is missing); give a run of fit or validate that kept one "
                "(pruning.save_model: true)"
            )
    if not list(folder.glob("*.safetensors")):
        raise UserError(f"'{run}': its pruned model has no weights; run it again")
    return folder


def files_of(folder: Path, repo: str) -> Iterator[tuple[str, Any]]:
    """Yield the files to upload: name, and path or content.

    The card loads the model by its new name, and a local path of the base model stays here.

    Args:
        folder: The pruned model.
        repo: Its name on the hub.
    """
    from mlprune.models.card import HERE

    for file in sorted(folder.iterdir()):
        if file.name == CARD:
            yield CARD, file.read_text(encoding="utf-8").replace(HERE, repo).encode()
        elif file.name == RECIPE:
            recipe = json.loads(file.read_text(encoding="utf-8"))
            named = recipe if recipe.get("hub_id") else recipe | {"base_model": Path(recipe["base_model"]).name}
            yield RECIPE, json.dumps(named, indent=2, ensure_ascii=False).encode()
        elif file.is_file() and not file.name.startswith("."):
            yield file.name, str(file)


def _remedy(error: Exception) -> str:
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, LocalTokenNotFoundError) or (isinstance(error, HfHubHTTPError) and status == 401):
        return "; log in with `hf auth login`"
    return "; your token may not write there" if isinstance(error, HfHubHTTPError) and status == 403 else ""
