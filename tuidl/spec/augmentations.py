"""The registry of image augmentations: random changes of training images that keep their label.

Each has one strength, and strength 0 turns it off. The tensor code is in `tuidl.train.data.augment`, in this order.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Augmentation:
    """One augmentation as the form shows it: its strength lies in [`minimum`, `maximum`], measured in `unit`.

    `whole` says that only whole numbers mean something (a fraction is cut off).
    """

    key: str
    title: str
    summary: str
    source: str
    unit: str
    maximum: float
    whole: bool = False
    minimum: float = 0.0


AUGMENTATIONS: dict[str, Augmentation] = {
    entry.key: entry
    for entry in (
        Augmentation(
            key="crop",
            title="Random crop",
            summary="Widens the image by this many mirrored pixels on each side and cuts out a random window.",
            source="He et al., Deep Residual Learning, 2016, section 4.2 (there with zeros; mirrored as in airbench)",
            unit="pixels",
            maximum=8,
            whole=True,
        ),
        Augmentation(
            key="shift",
            title="Shift",
            summary="Moves the image by up to this many pixels in both directions; what comes in is background.",
            source="x'(r, c) = x(r - a, c - b), a and b uniform in {-n, ..., n}; Simard et al., 2003",
            unit="pixels",
            maximum=8,
            whole=True,
        ),
        Augmentation(
            key="rotation",
            title="Rotation",
            summary="Turns the image around its centre by up to this angle, to either side.",
            source="bilinear sampling at R(-a) p, a uniform in [-n, n]; Simard et al., 2003",
            unit="degrees",
            maximum=45,
        ),
        Augmentation(
            key="flip",
            title="Mirror",
            summary="Swaps left and right with this probability.",
            source="Krizhevsky et al., ImageNet Classification with Deep CNNs, 2012, section 4.1",
            unit="probability",
            maximum=1,
        ),
        Augmentation(
            key="cutout",
            title="Cutout",
            summary="Hides a square with this side, at a random place, behind the mean value.",
            source="DeVries and Taylor, Improved Regularization of CNNs with Cutout, 2017",
            unit="pixels",
            maximum=24,
            whole=True,
        ),
        Augmentation(
            key="noise",
            title="Noise",
            summary="Adds normally distributed noise with this standard deviation to every pixel.",
            source="x' = x + s e, e ~ N(0, 1); Bishop, Training with Noise is Equivalent to Tikhonov, 1995",
            unit="standard deviations of the pixels",
            maximum=1,
        ),
    )
}
