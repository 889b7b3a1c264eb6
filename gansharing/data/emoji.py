"""The four-domain set: the same emoji drawn by Google (Noto), Twitter, Microsoft (Fluent 3D) and OpenMoji."""

import hashlib
import io
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.progress import track

from gansharing.data.decode import Recipe, decode
from gansharing.data.sources.base import Item, Source
from gansharing.data.sources.embedded import ATTRIBUTION, code_points, embedded_source, has_skin_tone
from gansharing.errors import UserError
from gansharing.files import folder_atomically

_MOST_MEMBER_BYTES = 1 << 20


@dataclass(frozen=True)
class Package:
    """An npm package with one image file for each emoji.

    Attributes:
        name: The package.
        version: The version whose content was checked.
        file: What ``npm pack`` calls it.
        sha256: Of that file.
        members: What an image is called inside; the group is its code points.
        licence: Line for ``LICENSES.txt``.
    """

    name: str
    version: str
    file: str
    sha256: str
    members: str
    licence: str


PACKAGES = {
    "noto": Package(
        "emoji-datasource-google",
        "16.0.0",
        "emoji-datasource-google-16.0.0.tgz",
        "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
        r"package/img/google/64/([0-9a-f-]+)\.png",
        "Noto Color Emoji, Google; images Apache-2.0 (npm emoji-datasource-google 16.0.0)",
    ),
    "fluent": Package(
        "@lobehub/fluent-emoji-3d",
        "1.1.0",
        "lobehub-fluent-emoji-3d-1.1.0.tgz",
        "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
        r"package/assets/([0-9a-f-]+)\.webp",
        "Fluent Emoji 3D, Microsoft; MIT (npm @lobehub/fluent-emoji-3d 1.1.0)",
    ),
}


def write_emoji4(out: Path, resolution: int, packages: Path | None, skin_tones: bool) -> int:
    """Write a folder of ``CODEPOINTS.png`` for each domain and ``LICENSES.txt``, whole or not at all.

    Args:
        out: A folder that does not exist yet, or is empty.
        resolution: Side of the images in pixels.
        packages: Folder with the packages' files as ``npm pack`` names them; fetched with npm where ``None``.
        skin_tones: Keep skin-tone variants.

    Returns:
        The number of emoji, the same in all four folders.

    Raises:
        UserError: ``out`` is not empty, a package cannot be had or is not the known one, or the disk is full.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already; name a new folder")
    sources = {name: embedded_source(name, skin_tones=True) for name in ("twemoji", "openmoji")}
    with tempfile.TemporaryDirectory(prefix="gansharing-npm-") as fetched:
        for domain, package in PACKAGES.items():
            sources[domain] = _package_source(package, _tarball(package, packages, Path(fetched)))
    shared = set.intersection(*({item.name for item in source.items} for source in sources.values()))
    shared = {name for name in shared if skin_tones or not has_skin_tone(name.removesuffix(".png"))}
    _write_whole(out, sources, sorted(shared), Recipe(resolution))
    return len(shared)


def _tarball(package: Package, packages: Path | None, folder: Path) -> bytes:
    if packages is None:
        _fetch(package, folder)
    file = (packages or folder) / package.file
    try:
        data = file.read_bytes()
    except OSError as error:
        wanted = f"npm pack {package.name}@{package.version}"
        raise UserError(f"cannot read {file} ({error.strerror}); '{wanted}' writes it") from error
    if hashlib.sha256(data).hexdigest() != package.sha256:
        raise UserError(f"{file} is not {package.name} {package.version} as it is known; fetch it again")
    return data


def _fetch(package: Package, folder: Path) -> None:
    spec = f"{package.name}@{package.version}"
    remedy = f"run 'npm pack {spec}' where there is a network, and give its folder as --packages"
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(f"{spec} is fetched with npm, which is not installed; install it, or {remedy}")
    command = [npm, "pack", "--silent", "--ignore-scripts", spec]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=900)
    except (subprocess.SubprocessError, OSError) as error:
        raise UserError(f"npm cannot fetch {spec}; {remedy}") from error


def _package_source(package: Package, data: bytes) -> Source:
    """A package's images, read from memory; nothing is unpacked."""
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        for member in archive:
            match = re.fullmatch(package.members, member.name)
            content = archive.extractfile(member) if match and member.isfile() else None
            if match and content and member.size <= _MOST_MEMBER_BYTES:
                files[f"{code_points(match[1])}.png"] = content.read()
    items = [Item(name, 0, "train", Path(package.file)) for name in sorted(files)]
    return Source(package.name, items, lambda item: files[item.name])


def _write_whole(out: Path, sources: dict[str, Source], names: list[str], recipe: Recipe) -> None:
    console = Console(stderr=True)
    with folder_atomically(out) as folder:
        for domain, source in sorted(sources.items()):
            (folder / domain).mkdir()
            items = {item.name: item for item in source.items}
            for name in track(names, f"Writing {domain}", console=console):
                pixels = decode(source.read(items[name]), recipe)
                Image.fromarray(pixels).save(folder / domain / name)
        (folder / "LICENSES.txt").write_text(_licences(recipe), encoding="utf-8")


def _licences(recipe: Recipe) -> str:
    lines = {domain: package.licence for domain, package in PACKAGES.items()} | ATTRIBUTION
    changes = f"Changes: resized to {recipe.resolution} px over {recipe.background}, saved as PNG."
    return "\n".join(f"{domain}: {line}" for domain, line in sorted(lines.items())) + f"\n{changes}\n"
