"""Fetching a weights file once, or saying in one line which file to put where."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import torch

from fastxai.errors import CannotRun

_PATIENCE = 5.0  # seconds until a host that does not answer counts as out of reach


def hub_folder() -> Path:
    """Where torch keeps downloaded checkpoints."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def reachable(url: str) -> bool:
    """Whether the host of `url` answers within seconds, by one HEAD request."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_PATIENCE):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500 and error.code not in (403, 404, 407)
    except (OSError, ValueError):
        return False


def fetch_to_hub(url: str, model: str) -> Path:
    """The file of `url` in torch's checkpoints folder, downloaded if it is not there yet."""
    name = url.rsplit("/", 1)[-1]
    path = hub_folder() / name
    if path.is_file():
        return path
    if reachable(url):
        # torchvision writes the first digits of the sha256 into the name, and torch.hub checks them.
        digest = name.rsplit(".", 1)[0].rsplit("-", 1)[-1]
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), digest if len(digest) >= 8 else None, progress=False)
            return path
        except (OSError, RuntimeError, urllib.error.URLError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CannotRun(f"the download of {url} failed ({reason}): {_advice(url, model)}") from error
    raise CannotRun(f"the weights of {model} cannot be downloaded here: {_advice(url, model)}")


def _advice(url: str, model: str) -> str:
    name = url.rsplit("/", 1)[-1]
    return f"put {name} (from {url}) into {hub_folder()}, or give a file with --weights"
