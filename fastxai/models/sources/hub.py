"""Files of the Hugging Face hub: from its cache, else downloaded, else one line that says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastxai.errors import CannotRun, MissingExtra
from fastxai.models.download import reachable


def fetch_from_hf(repository: str, names: Sequence[str], model: str) -> Path:
    """The first of `names` that the repository has, as a local path."""
    try:
        from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
    except ImportError as error:
        raise MissingExtra(f"{model} from the Hugging Face hub", "hf") from error
    for name in names:
        cached = try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached)
    page = f"{constants.ENDPOINT}/{repository}"
    advice = f"download {names[0]} from {page} elsewhere, then give it with --weights"
    if model.startswith("hf:"):
        advice = f"download {page} elsewhere ({names[0]} and the rest), then give it as hf:FOLDER"
    if constants.HF_HUB_OFFLINE or not reachable(page):
        raise CannotRun(f"the files of {model} cannot be downloaded here: {advice}")
    for name in names:
        try:
            return Path(hf_hub_download(repository, name))
        except EntryNotFoundError:
            continue
        except (HfHubHTTPError, OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CannotRun(f"the download of {name} for {model} failed ({reason}): {advice}") from error
    raise CannotRun(f"{page} has none of {', '.join(names)}: {advice}")
