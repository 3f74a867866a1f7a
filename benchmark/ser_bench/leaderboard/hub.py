"""Put a run on the Hugging Face hub: the model, its record and its card; no predictions, no checkpoints, no log."""

from __future__ import annotations

from pathlib import Path

from ser_bench.errors import HubError
from ser_bench.leaderboard.card import write_cards

PUSHED = ("README.md", "record.json", "settings.json", "seed-*/result.json", "seed-*/model/*")
"""What ``ser_bench.load`` needs, and what says how it was made."""


def push(run: Path, repo: str, *, private: bool = False) -> str:
    """Upload a run to a model repository, which is made if it is not there; return its address.

    Args:
        run: a run folder; its cards are written anew.
        repo: ``OWNER/NAME``.
        private: make a new repository private.

    Raises:
        RecordError: the record is absent or malformed.
        HubError: the name is no repository's, nobody is logged in, the hub refuses, or it cannot be reached.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError

    if not list(run.glob("seed-*/model/*")):
        raise HubError(f"{run} holds no trained model under seed-*/model; expected a folder that `ser-bench run` made.")
    write_cards(run)
    if get_token() is None:
        raise HubError(
            f"nobody is logged in to the hub, so {repo} cannot be written. Log in with `hf auth login`, or set "
            "HF_TOKEN."
        )
    api = HfApi()
    try:
        made = api.create_repo(repo, repo_type="model", private=private or None, exist_ok=True)
        name = getattr(made, "repo_id", repo)
        api.upload_folder(
            repo_id=name,
            repo_type="model",
            folder_path=run,
            allow_patterns=list(PUSHED),
            commit_message=f"Upload {run.resolve().name} with ser-bench",
        )
    except HFValidationError as error:
        raise HubError(f"'{repo}' is no repository's name ({error}); expected OWNER/NAME.") from error
    except OfflineModeIsEnabled as error:
        raise HubError("the hub is switched off by HF_HUB_OFFLINE. Unset it to push.") from error
    except RepositoryNotFoundError as error:
        raise HubError(
            f"there is no repository {repo} that this login may write. Check its name, or the token's rights "
            "(`hf auth whoami`)."
        ) from error
    except HfHubHTTPError as error:
        raise HubError(_refused(repo, error)) from error
    except Exception as error:
        if not isinstance(error, OSError) and not _is_connection(error):
            raise
        raise HubError(
            f"the hub cannot be reached ({type(error).__name__}: {str(error)[:200]}). Check the network, and push "
            "again: what is there already is not sent twice."
        ) from error
    return str(made)


def _refused(repo: str, error: Exception) -> str:
    code = getattr(getattr(error, "response", None), "status_code", None)
    reasons = {401: "the login is not valid", 403: "this login may not write there", 404: "there is no such repository"}
    reason = reasons.get(code or 0, str(error).splitlines()[0][:200] if str(error) else "no reason given")
    return f"the hub refuses to write {repo} ({code or 'no status'}: {reason}). Check the name and `hf auth whoami`."


def _is_connection(error: Exception) -> bool:
    """Say whether an error is the transport's: its library is the hub client's choice and has changed before."""
    return any(base.__name__ in ("TransportError", "RequestError") for base in type(error).__mro__)
