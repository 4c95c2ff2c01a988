"""Pictures of images: grids as PNG files."""

import torch
from torch import Tensor
from torchvision.io import encode_png
from torchvision.utils import make_grid

from tuidl.train.events import Artifact


def grid(name: str, images: Tensor, columns: int) -> Artifact:
    """Return `images` (uint8 [N, C, H, W]) as one PNG without gaps, `columns` side by side, and how to cut it apart."""
    sheet = make_grid(images.cpu(), nrow=columns, padding=0)
    details = {
        "kind": "grid",
        "count": len(images),
        "columns": columns,
        "height": images.shape[2],
        "width": images.shape[3],
    }
    return Artifact(f"{name}.png", bytes(encode_png(sheet.to(torch.uint8)).numpy()), details)
