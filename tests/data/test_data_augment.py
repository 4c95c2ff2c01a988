"""Every augmentation does what its summary says, is decided by the generator alone, and off is free."""

import pytest
import torch

from tuidl.errors import UsageError
from tuidl.spec.augmentations import AUGMENTATIONS
from tuidl.train.data import augment as module
from tuidl.train.data.augment import augment

STRONG = {"crop": 3, "shift": 3, "rotation": 30.0, "flip": 0.5, "cutout": 6, "noise": 0.1}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(64, 3, 12, 10, generator=seeded(9)) + 1  # no zeros of their own


def test_every_entry_has_code_bounds_and_a_default_of_off():
    assert list(AUGMENTATIONS) == list(module._STEPS) and set(STRONG) == set(AUGMENTATIONS)
    for key, entry in AUGMENTATIONS.items():
        assert entry.key == key and entry.minimum == 0 and STRONG[key] <= entry.maximum


def test_off_returns_the_images_themselves_and_draws_nothing(images):
    generator = seeded()
    before = generator.get_state()
    for strengths in ({}, dict.fromkeys(AUGMENTATIONS, 0.0), {"shift": 0.9}):
        assert augment(images, strengths, generator) is images
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("key", AUGMENTATIONS)
def test_generator_alone_decides_and_the_input_is_untouched(images, key):
    kept = images.clone()
    one, two, other = (augment(images, {key: STRONG[key]}, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other) and not torch.equal(one, images)
    assert torch.equal(images, kept) and one.shape == images.shape and one.dtype == images.dtype


@pytest.mark.parametrize("key", AUGMENTATIONS)
def test_each_image_is_changed_in_its_own_way(key):
    same = torch.rand(1, 1, 12, 12, generator=seeded()).expand(32, 1, 12, 12) + 1
    assert len(augment(same, {key: STRONG[key]}, seeded()).unique(dim=0)) > 1


def test_unknown_key_is_refused(images):
    with pytest.raises(UsageError, match="did you mean 'rotation'"):
        augment(images, {"rotatoin": 1}, seeded())


def test_shift_moves_by_whole_pixels_and_fills_with_background(images):
    moved = augment(images, {"shift": 2}, seeded(), background=torch.tensor([7.0, 8.0, 9.0]))
    places = set()
    for before, after in zip(images, moved, strict=True):
        padded = torch.nn.functional.pad(before - torch.tensor([7.0, 8.0, 9.0])[:, None, None], (2,) * 4)
        padded += torch.tensor([7.0, 8.0, 9.0])[:, None, None]
        places |= {
            (row, column)
            for row in range(5)
            for column in range(5)
            if torch.allclose(padded[:, row : row + 12, column : column + 10], after)
        }
    assert len(places) > 15  # 64 images on 25 places
    plain = augment(images, {"shift": 2}, seeded())
    assert (plain == 0).any() and torch.equal(
        plain == 0, (moved - torch.tensor([7.0, 8.0, 9.0])[:, None, None]).abs() < 1e-6
    )


def test_crop_cuts_a_window_out_of_the_mirrored_image(images):
    cut = augment(images, {"crop": 2}, seeded())
    padded = torch.nn.functional.pad(images, (2,) * 4, mode="reflect")
    for index in range(len(images)):
        assert any(
            torch.equal(padded[index, :, row : row + 12, column : column + 10], cut[index])
            for row in range(5)
            for column in range(5)
        )
    assert augment(images[..., :2, :2], {"crop": 8}, seeded()).shape == (64, 3, 2, 2)


def test_flip_mirrors_with_its_probability(images):
    assert torch.equal(augment(images, {"flip": 1}, seeded()), images.flip(-1))
    half = augment(images, {"flip": 0.5}, seeded())
    mirrored = (half == images.flip(-1)).flatten(1).all(1)
    assert torch.equal(half[~mirrored], images[~mirrored]) and 16 < mirrored.sum() < 48


def test_rotation_turns_around_the_centre_and_keeps_shapes_on_oblong_images(monkeypatch):
    monkeypatch.setattr(module, "_uniform", lambda images, generator: torch.ones(images.shape[0]))  # the full angle
    square = torch.rand(2, 1, 9, 9, generator=seeded())
    turned = module.rotation(square, 90, seeded())
    assert torch.allclose(turned, square.rot90(1, (2, 3)), atol=1e-4) or torch.allclose(
        turned, square.rot90(-1, (2, 3)), atol=1e-4
    )
    oblong = torch.zeros(1, 1, 11, 21)
    oblong[0, 0, 5, 7:14] = 1  # a bar of 7 pixels through the centre
    upright = module.rotation(oblong, 90, seeded())
    assert torch.allclose(upright[0, 0, 2:9, 10], torch.ones(7), atol=1e-4) and abs(upright.sum() - 7) < 1e-3


def test_rotation_by_small_angles_stays_near(images):
    turned = augment(images, {"rotation": 0.01}, seeded())
    assert torch.allclose(turned[..., 2:-2, 2:-2], images[..., 2:-2, 2:-2], atol=0.02)


def test_cutout_hides_a_square_of_its_side(images):
    hidden = augment(images, {"cutout": 4}, seeded()) == 0
    assert torch.equal(hidden[:, 0], hidden[:, 1])
    rows, columns = hidden[:, 0].any(2).sum(1), hidden[:, 0].any(1).sum(1)
    assert rows.max() == columns.max() == 4 and rows.min() >= 2
    assert torch.equal(hidden[:, 0].sum((1, 2)), rows * columns)
    untouched = ~hidden
    assert torch.equal(augment(images, {"cutout": 4}, seeded())[untouched], images[untouched])


def test_noise_has_its_standard_deviation():
    images = torch.zeros(64, 3, 32, 32)
    noisy = augment(images, {"noise": 0.3}, seeded())
    assert abs(noisy.std() - 0.3) < 0.01 and abs(noisy.mean()) < 0.01


def test_all_together_in_half_precision(images):
    mixed = augment(images.bfloat16(), STRONG, seeded(), background=-0.4)
    assert mixed.shape == images.shape and mixed.dtype == torch.bfloat16 and mixed.isfinite().all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_no_step_waits_for_the_device():
    images = torch.rand(256, 3, 32, 32, device="cuda")
    background = torch.zeros(3, device="cuda")
    generator = torch.Generator("cuda").manual_seed(0)
    augment(images, STRONG, generator, background)
    torch.cuda.set_sync_debug_mode("error")
    try:
        augment(images, STRONG, generator, background)
    finally:
        torch.cuda.set_sync_debug_mode("default")
