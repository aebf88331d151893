"""Tells from a file's name whether it is an image, a label, or something that systems leave behind."""

from __future__ import annotations

import re

# torchvision's, and others that Pillow reads
IMAGE_EXTENSIONS = (
    ".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".jfif", ".gif", ".avif",
)  # fmt: skip
# images that are not read here: they are left out, and always reported
OTHER_IMAGE_EXTENSIONS = (
    ".jpe", ".jp2", ".j2k", ".jxl", ".heic", ".heif", ".apng", ".pnm", ".tga", ".ico", ".svg", ".psd", ".exr", ".dcm", ".npy",
    ".dng", ".cr2", ".nef",
)  # fmt: skip
SYSTEM_FOLDERS = ("@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__pycache__")

NO_IMAGE = "no image by its name"
_HIDDEN = re.compile(r"(?:^|/)\.")


def is_image_name(name: str) -> bool:
    """Whether the extension, in upper or lower case, is that of an image format that is read."""
    return name.lower().endswith(IMAGE_EXTENSIONS)


def is_system_folder(name: str) -> bool:
    """Whether a folder of this name is hidden, or belongs to a file server or an operating system."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def reason_to_leave_out(path: str) -> str:
    """Why a file is no image of a data set, by its path alone; empty if it may be one."""
    reason = reason_beside_extension(path)
    if reason or is_image_name(path):
        return reason
    return "an image format that is not read" if path.lower().endswith(OTHER_IMAGE_EXTENSIONS) else NO_IMAGE


def reason_beside_extension(path: str) -> str:
    """Why a file is left out whatever its extension: for its folder, or because macOS puts such files beside others."""
    if _HIDDEN.search(path) is None and not any(folder in path for folder in SYSTEM_FOLDERS):
        return ""
    *folders, name = path.split("/")
    if any(is_system_folder(folder) for folder in folders if folder not in (".", "..")):
        return "in a hidden or system folder"
    return "what macOS keeps beside a file" if name.startswith("._") else ""
