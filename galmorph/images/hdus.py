"""The images of a FITS file that form a cutout, and whether they have one grid."""

from __future__ import annotations

import math

import numpy as np

from galmorph.errors import CutoutError
from galmorph.images.fits_file import FileImages, StoredImage
from galmorph.images.headers import band, kind
from galmorph.images.wcs import corners, corners_in, same_grid

# The images of a service's subimage file end on whole pixels, within one pixel of the requested edge.
_EDGE_TOLERANCE_PX = 1.0


def choose_pictures(
    path: str, content: FileImages, hdu: int | str | None = None, *, one_grid: bool = True
) -> list[StoredImage]:
    """Return the images of the sky in the file of one galaxy: one image or cube, or one image a band.

    Parameters
    ----------
    path : str
        The file, for messages.
    content : FileImages
        What it holds.
    hdu : int or str, optional
        Number or EXTNAME of the one to use.
    one_grid : bool
        Whether the bands must have one grid; otherwise they will be resampled.

    Raises
    ------
    CutoutError
        If there is none, if it is not clear which, or if they are on different grids.
    """
    if hdu is not None:
        return [_named(path, content, hdu)]
    pictures = [image for image in content.images if _is_plane(image) and not kind(image)]
    if not pictures:
        raise CutoutError(f"{path}: {_why_none(content)}")
    if all("BRICK" in image.own_cards for image in pictures):
        pictures = _one_brick(path, pictures)
    if len(pictures) == 1 or (pictures[0].index == 0 and pictures[0].n_planes > 1):
        return pictures[:1]
    names = [band(image) for image in pictures]
    if "" in names or len(set(names)) < len(names) or any(image.n_planes > 1 for image in pictures):
        listed = ", ".join(f"{image.label} band {name!r}" for image, name in zip(pictures, names, strict=True))
        raise CutoutError(
            f"{path}: holds several images that are not one a band ({listed}). Choose one with --image-hdu."
        )
    first = pictures[0]
    for other in pictures[1:] if one_grid else ():
        if other.shape != first.shape or not same_grid(first.header_text, other.header_text, first.shape):
            raise CutoutError(
                f"{path}: {other.label} is on another grid than {first.label}. Resample the bands to one grid."
            )
    return pictures


def _is_plane(image: StoredImage) -> bool:
    return len(image.shape) > 1 and min(image.shape[-2:]) > 1


def _named(path: str, content: FileImages, hdu: int | str) -> StoredImage:
    for image in content.images:
        if str(image.index) == str(hdu) or str(image.own_cards.get("EXTNAME", "")).strip().lower() == str(hdu).lower():
            if not _is_plane(image):
                raise CutoutError(f"{path}: {image.label} has the shape {image.shape} and is not a picture.")
            return image
    labels = ", ".join(image.label for image in content.images) or "none"
    raise CutoutError(f"{path}: there is no image in HDU {hdu!r}. Images: {labels}.")


def _why_none(content: FileImages) -> str:
    kinds = {kind(image) for image in content.images} - {""}
    others = set(content.others.values())
    if kinds:
        return (
            f"holds a {min(kinds)} image, not the picture of a galaxy. Give the image that goes with it; --image-hdu "
            "uses this one all the same."
        )
    if content.images:
        return f"its image has the shape {content.images[0].shape}: a picture has two axes of more than one pixel."
    if "groups" in others:
        return "holds random groups (radio visibilities), not an image."
    if "table" in others:
        return "holds a table, not an image. A table of galaxies is given as a catalog."
    return "holds no image: every HDU is empty. Fetch it again."


def _one_brick(path: str, pictures: list[StoredImage]) -> list[StoredImage]:
    """Keep the images of the brick that contains the field, if there are several (the Legacy Surveys' ``subimage``)."""
    bricks: dict[str, list[StoredImage]] = {}
    for image in pictures:
        bricks.setdefault(str(image.own_cards["BRICK"]), []).append(image)
    name, best = max(bricks.items(), key=lambda item: math.prod(item[1][0].shape))
    for other, images in bricks.items():
        edges = corners_in(best[0].header_text, images[0].header_text, images[0].shape)
        limits = corners(best[0].shape)
        outside = np.maximum(limits.min(axis=0) - edges, edges - limits.max(axis=0)).max()
        if not outside <= _EDGE_TOLERANCE_PX:
            raise CutoutError(
                f"{path}: the field lies on the edge of the bricks {name} and {other}, and neither holds all of it. "
                "Fetch it again without subimage."
            )
    return best
