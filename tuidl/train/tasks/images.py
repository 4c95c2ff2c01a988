"""Pictures of images: grids as PNG files."""

import io

from PIL import Image
from torch import Tensor

from tuidl.train.events import Artifact


def grid(name: str, images: Tensor, columns: int) -> Artifact:
    """Return `images` (uint8 [N, C, H, W]) as one PNG without gaps, `columns` side by side, and how to cut it apart.

    Made by hand: loading torchvision for its grids would take as long as loading torch.
    """
    count, channels, height, width = images.shape
    across = min(columns, count)
    rows = -(-count // across)
    sheet = images.new_zeros(rows * across, channels, height, width)
    sheet[:count] = images
    pixels = sheet.unflatten(0, (rows, across)).permute(0, 3, 1, 4, 2).reshape(rows * height, across * width, channels)
    file = io.BytesIO()
    Image.fromarray(pixels.expand(-1, -1, 3).contiguous().cpu().numpy(), "RGB").save(file, "PNG")
    details = {"kind": "grid", "count": count, "columns": columns, "height": height, "width": width}
    return Artifact(f"{name}.png", file.getvalue(), details)
