"""Pictures of images: grids as PNG files."""

import io

from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from tuidl.train.events import Artifact


def grid(name: str, images: Tensor, columns: int) -> Artifact:
    """Return `images` (uint8 [N, C, H, W]) as one PNG without gaps, `columns` side by side, and how to cut it apart."""
    file = io.BytesIO()
    to_pil_image(make_grid(images.cpu(), nrow=columns, padding=0)).save(file, "PNG")
    details = {
        "kind": "grid",
        "count": len(images),
        "columns": columns,
        "height": images.shape[2],
        "width": images.shape[3],
    }
    return Artifact(f"{name}.png", file.getvalue(), details)
