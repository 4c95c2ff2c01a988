"""The models: what goes in and comes out for every choice, how many numbers they learn, and how those start."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tuidl.errors import UsageError
from tuidl.spec import models as spec
from tuidl.spec.layers import ACTIVATIONS, INITS
from tuidl.spec.load import load_preset
from tuidl.spec.models import MODELS
from tuidl.train.models.classifiers import Residual
from tuidl.train.models.layers import Maxout, activation, resolve

Shape = tuple[int, int, int]
GREY, COLOUR = (1, 28, 28), (3, 32, 32)
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"widths": (6, 5)},
    "cnn": {"channels": (3, 4), "widths": (5,)},
    "lenet5": {},
    "resnet": {"channels": (3, 4, 5), "residual": (False, True)},
    "rnn": {"width": 5, "embedding": 3},
    "lstm": {"width": 5, "embedding": 3},
    "gru": {"width": 5, "embedding": 3},
    "gan-mlp": {"widths": (6, 7), "latent": 3},
    "dcgan": {"channels": 4, "latent": 3},
}


def build(kind: str, *args: Any, **settings: Any) -> Any:
    chosen = MODELS[kind](**{**SMALL[kind], **settings})
    return resolve(chosen.entry)(chosen, *args)


def classifier(kind: str, shape: Shape = GREY, classes: int = 10, dropout: float = 0.0, **settings: Any) -> Any:
    return build(kind, shape, classes, dropout, **settings)


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_every_model_is_built_here() -> None:
    assert SMALL.keys() == set(MODELS)


# --- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bend", ACTIVATIONS)
@pytest.mark.parametrize("kind", MODELS.for_task("classification"))
def test_classifier_makes_a_logit_for_each_class_and_learns_everything(kind: str, bend: str) -> None:
    for init in INITS:
        for shape, classes, norm in ((GREY, 10, False), (COLOUR, 3, True)):
            model = classifier(kind, shape, classes, 0.2, activation=bend, init=init, batch_norm=norm)
            images = torch.randn(4, *shape)
            logits = model(images)
            assert logits.shape == (4, classes)
            assert model.features(images).ndim == 2
            assert model.training
            logits.square().sum().backward()
            assert all(parameter.grad is not None for parameter in model.parameters())
            assert torch.isfinite(logits).all()


@pytest.mark.parametrize(
    ("settings", "features"),
    [
        ({"channels": (4,), "pooling": "none"}, 4 * 8 * 8),
        ({"channels": (4,), "pooling": "max"}, 4 * 4 * 4),
        ({"channels": (4,), "pooling": "average", "pool_size": 4}, 4 * 2 * 2),
        ({"channels": (4, 6)}, 6 * 2 * 2),
        ({"channels": (4, 6), "head": "global"}, 6),
        ({"channels": (4,), "kernel": 5, "padding": 0, "pooling": "none"}, 4 * 4 * 4),
        ({"channels": (4,), "stride": 2, "pooling": "none"}, 4 * 4 * 4),
        ({"channels": (4,), "convs": 3, "kernel": 3, "padding": 0, "pooling": "none"}, 4 * 2 * 2),
        ({"channels": (4,), "widths": (9, 7)}, 7),
    ],
)
def test_each_setting_of_a_cnn_has_its_effect_on_the_shape(settings: dict[str, Any], features: int) -> None:
    model = build("cnn", (1, 8, 8), 3, 0.0, **{"widths": (), **settings})
    assert model.features(torch.zeros(2, 1, 8, 8)).shape == (2, features)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == len(settings["channels"]) * settings.get("convs", 1)


def test_pooling_keeps_what_it_says() -> None:
    for pooling, kind in (("max", nn.MaxPool2d), ("average", nn.AvgPool2d)):
        model = classifier("cnn", pooling=pooling)
        assert sum(isinstance(module, kind) for module in model.modules()) == 2


@pytest.mark.parametrize(
    ("kind", "shape", "settings"),
    [
        ("cnn", (1, 8, 8), {"channels": (4,) * 4}),  # pooled to nothing
        ("cnn", (1, 8, 8), {"channels": (4,), "kernel": 11, "padding": 0}),  # a filter larger than the image
        ("cnn", (1, 8, 8), {"channels": (4,), "pool_size": 8, "padding": 0}),
        ("cnn", (3, 32, 32), {"channels": (4,) * 12}),
        ("lenet5", (1, 8, 8), {}),
        ("resnet", (1, 28, 28), {"channels": (4,) * 6}),  # 28 14 7 3 1 nothing
    ],
)
def test_an_impossible_network_is_refused_with_advice(kind: str, shape: Shape, settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=rf"{shape[1]}x{shape[2]}"):
        classifier(kind, shape, **settings)


def test_images_too_small_for_a_dcgan_are_refused_with_advice() -> None:
    with pytest.raises(UsageError, match="gan-mlp"):
        build("dcgan", (1, 8, 8), 0.0, True)


# --- sizes -----------------------------------------------------------------------------------------------------------


def test_the_network_of_the_first_lecture_has_222360_parameters() -> None:
    settings = load_preset("mnist-mlp").model
    model = resolve(settings.entry)(settings, GREY, 10, 0.0)
    assert size(model) == 784 * 250 + 250 + 250 * 100 + 100 + 100 * 10 + 10 == 222_360


def test_lenet5_has_the_61706_parameters_of_the_textbook() -> None:
    assert size(classifier("lenet5", GREY)) == size(classifier("lenet5", (1, 32, 32))) == 61_706


def test_resnet_of_the_default_has_the_layers_of_page() -> None:
    chosen = spec.ResNet()
    model = resolve(chosen.entry)(chosen, COLOUR, 10, 0.0)
    filters = 9 * (3 * 64 + 64 * 128 + 2 * 128 * 128 + 128 * 256 + 256 * 512 + 2 * 512 * 512)
    norms = 2 * (64 + 3 * 128 + 256 + 3 * 512)
    assert size(model) == filters + norms + 512 * 10 + 10


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_each_stage_of_a_resnet_may_hold_a_residual_block(stage: int) -> None:
    wish = tuple(index == stage for index in range(3))
    model = classifier("resnet", COLOUR, channels=(3, 4, 5), residual=wish)
    (block,) = (module for module in model.modules() if isinstance(module, Residual))
    assert block.change[0].in_channels == (3, 4, 5)[stage]


def test_maxout_has_two_linear_maps_for_each_unit() -> None:
    plain, maxout = (classifier("mlp", (1, 4, 4), 3, activation=bend, widths=(7,)) for bend in ("relu", "maxout"))
    assert size(plain) == 16 * 7 + 7 + 7 * 3 + 3
    assert size(maxout) == 2 * (16 * 7 + 7) + 7 * 3 + 3


@pytest.mark.parametrize(("kind", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
def test_recurrent_models_have_the_gates_of_their_cell(kind: str, gates: int) -> None:
    v, e, h = 11, 3, 5
    assert size(build(kind, v, 0.0)) == v * e + gates * (e * h + h * h + 2 * h) + h * v + v


# --- what they compute -----------------------------------------------------------------------------------------------


def phi(x: float) -> float:
    return (1 + math.erf(x / math.sqrt(2))) / 2


CURVES: dict[str, Any] = {
    "linear": lambda x: x,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": math.tanh,
    "relu": lambda x: max(0.0, x),
    "leaky-relu": lambda x: max(0.1 * x, x),
    "prelu": lambda x: max(0.25 * x, x),  # where its slope starts
    "rrelu": lambda x: x if x > 0 else x * (1 / 8 + 1 / 3) / 2,  # in evaluation, the mean of its slopes
    "elu": lambda x: x if x >= 0 else math.exp(x) - 1,
    "gelu": lambda x: x * phi(x),
}


def test_every_activation_follows_its_formula() -> None:
    assert CURVES.keys() | {"maxout"} == ACTIVATIONS.keys()
    x = torch.linspace(-4, 4, 33)
    for name, curve in CURVES.items():
        found = activation(name).eval()(x)
        torch.testing.assert_close(found, torch.tensor([curve(float(value)) for value in x]), msg=name)


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 3, 3)])
def test_maxout_is_the_larger_of_two_maps(shape: tuple[int, ...]) -> None:
    """max(w₁ᵀx + b₁, w₂ᵀx + b₂)."""
    x = torch.randn(shape)
    expected = np.maximum(x.numpy()[:, :3], x.numpy()[:, 3:])
    assert np.array_equal(Maxout()(x).numpy(), expected)


def test_mlp_computes_the_forward_pass_of_the_lecture() -> None:
    """h⁽ᵗ⁾ = g(W⁽ᵗ⁾ h⁽ᵗ⁻¹⁾ + b⁽ᵗ⁾), with logits in the place of the last g."""
    model = classifier("mlp", activation="tanh")
    images = torch.randn(3, *GREY)
    h = images.flatten(1).numpy()
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    for layer in layers[:-1]:
        h = np.tanh(h @ layer.weight.detach().numpy().T + layer.bias.detach().numpy())
    expected = h @ layers[-1].weight.detach().numpy().T + layers[-1].bias.detach().numpy()
    np.testing.assert_allclose(model(images).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_residual_block_adds_its_change() -> None:
    block = Residual(3, "relu", batch_norm=False)
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(block(x), x + block.change(x))
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(block(x), x)  # with nothing to add it is a shortcut


def test_logit_scale_multiplies_the_output() -> None:
    models = []
    for scale in (0.125, 1.0):
        torch.manual_seed(0)
        models.append(classifier("resnet", COLOUR, logit_scale=scale).eval())
    images = torch.randn(2, *COLOUR)
    torch.testing.assert_close(models[0](images) * 8, models[1](images))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", MODELS.for_task("language"))
def test_the_state_carries_the_memory(kind: str, layers: int) -> None:
    """Two half windows are one whole window, if the state is handed on, and only then."""
    model = build(kind, 11, 0.0, layers=layers)
    ids = torch.randint(0, 11, (4, 10))
    whole, after = model(ids, model.start(4))
    assert whole.shape == (4, 10, 11)
    first, between = model(ids[:, :5], model.start(4))
    second, last = model(ids[:, 5:], between)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    for one, other in zip(last, after, strict=True):
        assert one.shape == (layers, 4, 5)
        torch.testing.assert_close(one, other)
    assert len(after) == (2 if kind == "lstm" else 1)
    forgetful, _ = model(ids[:, 5:], model.start(4))
    assert not torch.allclose(forgetful, second)


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("kind", MODELS.for_task("language"))
def test_recurrent_models_run_with_every_init(kind: str, init: str) -> None:
    model = build(kind, 7, 0.0, init=init)
    logits, _ = model(torch.zeros(2, 3, dtype=torch.long), model.start(2))
    assert torch.isfinite(logits).all()


# --- generators and discriminators -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bend", ACTIVATIONS)
@pytest.mark.parametrize("kind", MODELS.for_task("gan"))
def test_generator_draws_the_shape_of_the_data_and_the_discriminator_judges_it(kind: str, bend: str) -> None:
    for shape, init, critic_norm in (
        (GREY, "normal", True),
        (COLOUR, "default", False),
        (COLOUR, "orthogonal", True),
        (GREY, "kaiming", True),
        (GREY, "xavier", False),
        (GREY, "zeros", True),
    ):
        generator, discriminator = build(kind, shape, 0.3, critic_norm, activation=bend, init=init)
        images = generator(torch.randn(4, 3))
        assert images.shape == (4, *shape)
        assert images.abs().max() <= 1
        logits = discriminator(images)
        assert logits.shape == (4,)
        logits.sum().backward()
        for model in (generator, discriminator):
            assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("norm", [True, False])
def test_batch_norm_of_a_dcgan_may_be_left_out_and_a_critic_never_has_it(norm: bool) -> None:
    def has_norm(model: nn.Module) -> bool:
        return any(isinstance(module, nn.BatchNorm2d) for module in model.modules())

    generator, discriminator = build("dcgan", GREY, 0.0, True, batch_norm=norm)
    assert (has_norm(generator), has_norm(discriminator)) == (norm, norm)
    generator, critic = build("dcgan", GREY, 0.0, False, batch_norm=norm)
    assert (has_norm(generator), has_norm(critic)) == (norm, False)


# --- initialisations -------------------------------------------------------------------------------------------------


def layers_with(init: str, **settings: Any) -> tuple[Tensor, Tensor, nn.Module]:
    """Return a dense layer's weights [200, 784], a convolution's [64, 32, 3, 3], and a model with norms and slopes."""
    dense = classifier("mlp", widths=(200,), init=init, **settings)
    filters = classifier("cnn", channels=(32, 64), init=init, batch_norm=True, activation="prelu", **settings)
    convolutions = [module.weight for module in filters.modules() if isinstance(module, nn.Conv2d)]
    return dense.body[1].weight.detach(), convolutions[1].detach(), filters


@pytest.mark.parametrize("init", INITS)
def test_init_fills_weights_as_its_formula_says_and_leaves_norms_alone(init: str) -> None:
    torch.manual_seed(0)
    dense, filters, model = layers_with(init, init_std=0.3)
    fans = {"dense": (784, 200), "filters": (32 * 9, 64 * 9)}
    for weight, (inputs, outputs) in ((dense, fans["dense"]), (filters, fans["filters"])):
        spread, largest = float(weight.std()), float(weight.abs().max())
        match init:
            case "zeros":
                assert largest == 0
            case "normal":
                assert spread == pytest.approx(0.3, rel=0.03)
                assert largest > 0.9
            case "default":
                assert largest == pytest.approx(1 / math.sqrt(inputs), rel=0.01)
            case "xavier":
                assert largest == pytest.approx(math.sqrt(6 / (inputs + outputs)), rel=0.01)
                assert spread == pytest.approx(math.sqrt(2 / (inputs + outputs)), rel=0.03)
            case "kaiming":
                assert spread == pytest.approx(math.sqrt(2 / inputs), rel=0.03)
                assert largest > 2.5 * spread  # normal, not uniform
            case "orthogonal":
                rows = weight.flatten(1)
                torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), rtol=1e-4, atol=1e-4)
            case _:
                raise AssertionError("an init without a test")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all()
        if isinstance(module, nn.PReLU):
            assert (module.weight == 0.25).all()
        if isinstance(module, nn.Linear) and init != "default":
            assert (module.bias == 0).all()
