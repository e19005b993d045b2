"""Looking at every byte of a run: what is damaged, missing or leads elsewhere. Repairs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastxai.config import check_float, check_int
from fastxai.errors import CannotRun
from fastxai.explainers import Explainer
from fastxai.store.check import Checked, Expected
from fastxai.store.check_exported import expect
from fastxai.store.children import Request, answer, answer_apart
from fastxai.store.guard import gaps, list_shards
from fastxai.store.layout import Layout
from fastxai.store.manifest import changed_manifest, read_manifest
from fastxai.store.names import INDEX, RUN_JSON, SHARDS


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: the file, relative to the run, and what is wrong with it."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


def verify(
    run: str | Path,
    *,
    explainers: Sequence[Explainer] | None = None,
    processes: int = 0,
    seconds: float = 60.0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Problem]:
    """Check run.json, every shard (seal, structure, links, counts, all data) and the index; say what is wrong.

    processes: in so many others files are opened, each of which may take `seconds` (and one more for each MiB); a file
    that ends or stops such a process is a problem of that file. With 0 files are opened in this process, which they may
    end where they come from elsewhere. progress: called with files done and files in all.

    `run` may also be a file that `export_run` wrote; it must be of methods that are installed.

    Raises `ArgumentError` for a folder that is not a run, `SchemaError` where run.json cannot be read and `CannotRun`
    where no process can be started.
    """
    check_int("processes", processes, 0)
    check_float("seconds", seconds, 0, above=True)
    folder = Path(run)
    problems: list[Problem] = []
    expected = None
    if folder.is_file():
        requests = [Request("exported", folder, folder.stat().st_size, folder.name)]
    else:
        config = read_manifest(folder).config
        expected = expect(Layout(config, config.build_explainers() if explainers is None else explainers))
        problems, requests = _plan(folder)
    found: dict[str, Checked] = {}
    for request, checked in zip(requests, _answers(requests, expected, processes, seconds), strict=True):
        found[request.name] = checked
        problems += [Problem(request.name, what) for what in checked.problems]
        if progress is not None:
            progress(len(found), len(requests))
    return problems + list(_repeated(found))


def _plan(folder: Path) -> tuple[list[Problem], list[Request]]:
    """What is wrong by the names of the files alone, and the files to open, by their names in the run."""
    problems: list[Problem] = []
    changed = changed_manifest(folder)
    if changed is not None:
        problems.append(Problem(RUN_JSON, changed))
    try:
        shards = list_shards(folder)
    except CannotRun as error:
        return [*problems, Problem(SHARDS, str(error))], []
    problems += [Problem(f"{SHARDS}/{name}", "is missing: there are later ones of its worker") for name in gaps(shards)]
    requests = [Request("shard", shard.path, shard.size, f"{SHARDS}/{shard.path.name}") for shard in shards]
    index = folder / INDEX
    if index.exists():
        sizes = {shard.path.name: shard.size for shard in shards}
        requests.append(Request("index", index, index.stat().st_size, INDEX, sizes))
    return problems, requests


def _answers(requests: list[Request], expected: Expected | None, processes: int, seconds: float) -> Iterator[Checked]:
    if processes:
        return answer_apart(requests, expected, processes, seconds)
    return (answer(request, expected) for request in requests)


def _repeated(found: dict[str, Checked]) -> Iterator[Problem]:
    """Images that several shards of one generation hold: nothing says which of them counts."""
    owners: dict[int, dict[str, str]] = {}
    for name, checked in found.items():
        owner = owners.setdefault(checked.generation, {})
        shared: dict[str, list[str]] = {}
        for image in checked.ids or ():
            first = owner.setdefault(image, name)
            if first != name:
                shared.setdefault(first, []).append(image)
        for first, images in shared.items():
            more = f" and {len(images) - 1} more" if len(images) > 1 else ""
            yield Problem(name, f"holds {images[0]!r}{more} in generation {checked.generation}, as {first} does")
