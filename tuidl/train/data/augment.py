"""Image augmentation as tensor code: whole batches, on any device, without a loop over images.

No function here waits for the device (`.item()`, a shape that depends on values), so none stalls a training step.
All randomness comes from the generator that is given, which lives on the device of the images.
"""

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from tuidl.errors import UsageError
from tuidl.spec.augmentations import AUGMENTATIONS
from tuidl.text import did_you_mean


def augment(
    images: Tensor, strengths: Mapping[str, float], generator: Generator, background: Tensor | float = 0.0
) -> Tensor:
    """Return `images` [B, C, H, W] (floating point) changed at random, each in its own way.

    `strengths` are by the keys of `AUGMENTATIONS`; 0 or absent is off and costs nothing, and with all off `images`
    itself is returned. `background` ([C] or a number) fills what shift and rotation uncover; for normalised images
    black is (0 - mean) / std.

    Raises:
        UsageError: an unknown key.
    """
    for key in strengths:
        if key not in AUGMENTATIONS:
            raise UsageError(f"unknown augmentation {key!r}: {did_you_mean(key, AUGMENTATIONS)}")
    for key, entry in AUGMENTATIONS.items():
        strength = strengths.get(key, 0.0)
        if entry.whole:
            strength = int(strength)
        if strength <= 0:
            continue
        if key in _UNCOVER and isinstance(background, Tensor):
            fill = background.to(images).view(1, -1, 1, 1)
            images = _STEPS[key](images - fill, strength, generator) + fill
        elif key in _UNCOVER and background:
            images = _STEPS[key](images - background, strength, generator) + background
        else:
            images = _STEPS[key](images, strength, generator)
    return images


def shift(images: Tensor, pixels: float, generator: Generator) -> Tensor:
    """Move each image by a whole number of pixels, uniform in -pixels ... pixels on each axis; zeros come in."""
    border = int(pixels)
    return _random_windows(F.pad(images, (border,) * 4), images.shape[-2], images.shape[-1], generator)


def crop(images: Tensor, pixels: float, generator: Generator) -> Tensor:
    """Widen each image by mirrored pixels on each side and cut a random window of the old size out of it."""
    height, width = images.shape[-2:]
    border = min(int(pixels), height - 1, width - 1)  # a mirror cannot show more than there is
    return _random_windows(F.pad(images, (border,) * 4, mode="reflect"), height, width, generator)


def _random_windows(padded: Tensor, height: int, width: int, generator: Generator) -> Tensor:
    """Cut a window [height, width] out of each of `padded` [B, C, H, W], at a place of its own."""
    count, channels = padded.shape[:2]

    def starts(spare: int) -> Tensor:
        return torch.randint(0, spare + 1, (count, 1), generator=generator, device=padded.device)

    rows = starts(padded.shape[2] - height) + torch.arange(height, device=padded.device)  # [B, height]
    columns = starts(padded.shape[3] - width) + torch.arange(width, device=padded.device)  # [B, width]
    cut = padded.gather(2, rows[:, None, :, None].expand(-1, channels, -1, padded.shape[3]))
    return cut.gather(3, columns[:, None, None, :].expand(-1, channels, height, -1))


def rotation(images: Tensor, degrees: float, generator: Generator) -> Tensor:
    """Turn each image around its centre by an angle uniform in -degrees ... degrees, bilinear, zeros come in."""
    count, _, height, width = images.shape
    angle = (_uniform(images, generator).float() * 2 - 1) * math.radians(degrees)
    cos, sin, none = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # affine_grid counts both axes from -1 to 1, so an image that is not square needs the ratio of its sides.
    rows = (cos, -sin * height / width, none, sin * width / height, cos, none)
    grid = F.affine_grid(torch.stack(rows, dim=1).view(count, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid.to(images.dtype), mode="bilinear", padding_mode="zeros", align_corners=False)


def flip(images: Tensor, probability: float, generator: Generator) -> Tensor:
    """Mirror each image left to right with this probability."""
    mirrored = _uniform(images, generator) < probability
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def cutout(images: Tensor, side: float, generator: Generator) -> Tensor:
    """Set a square with this side to 0 in each image; its centre is any pixel, so that it may hang over the edge."""
    count, _, height, width = images.shape

    def covered(size: int) -> Tensor:
        first = torch.randint(0, size, (count, 1), generator=generator, device=images.device) - int(side) // 2
        place = torch.arange(size, device=images.device)
        return (place >= first) & (place < first + int(side))  # [B, size]

    square = covered(height)[:, None, :, None] & covered(width)[:, None, None, :]
    return images.masked_fill(square, 0)


def noise(images: Tensor, std: float, generator: Generator) -> Tensor:
    """Add noise from a normal distribution with this standard deviation to every value."""
    return images + std * torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)


def _uniform(images: Tensor, generator: Generator) -> Tensor:
    """Return one random number in [0, 1) for each image, [B]."""
    return torch.rand(images.shape[0], generator=generator, device=images.device)


_STEPS: dict[str, Callable[[Tensor, float, Generator], Tensor]] = {
    "crop": crop,
    "shift": shift,
    "rotation": rotation,
    "flip": flip,
    "cutout": cutout,
    "noise": noise,
}
_UNCOVER = ("shift", "rotation")
