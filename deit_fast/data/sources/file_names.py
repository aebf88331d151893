"""What the name of a file tells: an image, a label, or something that systems leave behind."""

from __future__ import annotations

import posixpath

# torchvision's, and what Pillow reads besides
IMAGE_EXTENSIONS = (
    ".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".jfif", ".gif", ".avif",
)  # fmt: skip
# images as well, which are not read here: left out, but never without a word
OTHER_IMAGE_EXTENSIONS = (
    ".jpe", ".jp2", ".j2k", ".jxl", ".heic", ".heif", ".apng", ".pnm", ".tga", ".ico", ".svg", ".psd", ".exr", ".dcm", ".npy",
    ".dng", ".cr2", ".nef",
)  # fmt: skip
SYSTEM_FOLDERS = ("@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__pycache__")


def is_image_name(name: str) -> bool:
    """Whether the extension, in any case, is that of an image format that is read."""
    return name.lower().endswith(IMAGE_EXTENSIONS)


def is_system_folder(name: str) -> bool:
    """Whether a folder of this name is hidden, or what a file server or an operating system keeps for itself."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def is_in_system_folder(path: str) -> bool:
    """Whether a file lies in such a folder, at any depth of its path."""
    return any(is_system_folder(part) for part in posixpath.dirname(path).split("/") if part not in ("", ".", ".."))


def reason_to_leave_out(path: str) -> str:
    """Why a file is no image of a data set, by its path alone; empty for one that may be."""
    name = posixpath.basename(path)
    if is_in_system_folder(path):
        return "in a hidden or system folder"
    if name.startswith("._"):
        return "what macOS keeps beside a file"
    if not is_image_name(name):
        is_image = name.lower().endswith(OTHER_IMAGE_EXTENSIONS)
        return "an image format that is not read" if is_image else NO_IMAGE
    return ""


NO_IMAGE = "no image by its name"
