"""The optimizers: torch's own, each with its hyper-parameters and defaults that are a good start."""

from typing import Any, ClassVar, Literal

from tuidl.spec.settings import Choice, Registry, setting


class Optimizer(Choice):
    """An optimizer and its settings."""

    full_batch: ClassVar[bool] = False  # one step per pass over the whole training split
    fused: ClassVar[bool] = False  # torch has a fused kernel for it
    native_decay: ClassVar[bool] = False  # torch's weight_decay is already decoupled
    matrices_only: ClassVar[bool] = False  # moves matrices only; AdamW moves the rest

    lr: float = setting(0.01, help="Learning rate: how far a step goes.", gt=0, le=1000, live=True)
    weight_decay: float = setting(
        0.0, help="Decoupled weight decay: each step also shrinks the weights by lr × this.", ge=0, le=10, live=True
    )

    def group(self) -> dict[str, Any]:
        """Return the values of torch's parameter group, all but `lr` and `weight_decay`."""
        return {}


OPTIMIZERS: Registry[Optimizer] = Registry("optimizer")


class _SGD(Optimizer):
    fused: ClassVar[bool] = True


@OPTIMIZERS.add(
    "gradient-descent",
    title="Gradient descent",
    summary="One step per pass, along the exact gradient of the whole training set.",
    formula="θ ← θ − η ∇L(θ)",
    source="seed lecture 2",
    implementation="torch.optim:SGD",
)
class GradientDescent(_SGD):
    """Settings of full-batch gradient descent."""

    kind: Literal["gradient-descent"] = "gradient-descent"
    full_batch: ClassVar[bool] = True
    lr: float = setting(0.5, help="Learning rate: how far a step goes.", gt=0, le=1000, live=True)


@OPTIMIZERS.add(
    "sgd",
    title="SGD",
    summary="A step along the gradient of each mini-batch: cheap and noisy.",
    formula="θ ← θ − η g",
    source="Robbins & Monro 1951; seed lecture 1",
    implementation="torch.optim:SGD",
)
class SGD(_SGD):
    """Settings of mini-batch stochastic gradient descent."""

    kind: Literal["sgd"] = "sgd"
    lr: float = setting(0.1, help="Learning rate: how far a step goes.", gt=0, le=1000, live=True)


class _WithMomentum(_SGD):
    lr: float = setting(0.05, help="Learning rate: how far a step goes.", gt=0, le=1000, live=True)
    momentum: float = setting(0.9, help="How much of the last step's speed is kept.", ge=0, lt=1, live=True)

    def group(self) -> dict[str, Any]:
        """Return momentum, and whether it looks ahead."""
        return {"momentum": self.momentum, "nesterov": self.kind == "nesterov" and self.momentum > 0}


@OPTIMIZERS.add(
    "momentum",
    title="Momentum",
    summary="SGD with inertia: steady directions gain speed, zig-zags cancel.",
    formula="v ← μv + g;  θ ← θ − ηv",
    source="Polyak 1964; seed lecture 2",
    implementation="torch.optim:SGD",
)
class Momentum(_WithMomentum):
    """Settings of SGD with momentum."""

    kind: Literal["momentum"] = "momentum"


@OPTIMIZERS.add(
    "nesterov",
    title="Nesterov",
    summary="Momentum that looks ahead to where it is about to be.",
    formula="v ← μv + g;  θ ← θ − η(g + μv)",
    source="Nesterov 1983; Sutskever et al. 2013; seed lecture 3",
    implementation="torch.optim:SGD",
)
class Nesterov(_WithMomentum):
    """Settings of SGD with Nesterov momentum."""

    kind: Literal["nesterov"] = "nesterov"


@OPTIMIZERS.add(
    "adagrad",
    title="Adagrad",
    summary="A rate for each weight, smaller the more it has moved; it never recovers.",
    formula="G ← G + g²;  θ ← θ − η g / (√G + ε)",
    source="Duchi et al. 2011; seed lecture 1",
    implementation="torch.optim:Adagrad",
)
class Adagrad(Optimizer):
    """Settings of Adagrad."""

    kind: Literal["adagrad"] = "adagrad"
    fused: ClassVar[bool] = True
    eps: float = setting(1e-10, help="Keeps the division finite.", gt=0, le=1)

    def group(self) -> dict[str, Any]:
        """Return epsilon."""
        return {"eps": self.eps}


@OPTIMIZERS.add(
    "rmsprop",
    title="RMSprop",
    summary="Adagrad that forgets: the square is a running mean.",
    formula="v ← αv + (1 − α)g²;  θ ← θ − η g / (√v + ε)",
    source="Hinton 2012; seed lecture 2",
    implementation="torch.optim:RMSprop",
)
class RMSprop(Optimizer):
    """Settings of RMSprop."""

    kind: Literal["rmsprop"] = "rmsprop"
    lr: float = setting(0.001, help="Learning rate: how far a step goes.", gt=0, le=1000, live=True)
    alpha: float = setting(0.99, help="Memory of the running square.", ge=0, lt=1, live=True)
    momentum: float = setting(0.0, help="How much of the last step's speed is kept.", ge=0, lt=1, live=True)
    eps: float = setting(1e-8, help="Keeps the division finite.", gt=0, le=1)

    def group(self) -> dict[str, Any]:
        """Return alpha, momentum and epsilon."""
        return {"alpha": self.alpha, "momentum": self.momentum, "eps": self.eps}


@OPTIMIZERS.add(
    "adadelta",
    title="Adadelta",
    summary="Steps in the unit of the weights themselves, so it needs hardly any rate.",
    formula="Δ = √(u + ε) / √(v + ε) g;  u ← ρu + (1 − ρ)Δ²;  θ ← θ − ηΔ",
    source="Zeiler 2012; seed lecture 2",
    implementation="torch.optim:Adadelta",
)
class Adadelta(Optimizer):
    """Settings of Adadelta."""

    kind: Literal["adadelta"] = "adadelta"
    lr: float = setting(1.0, help="Learning rate: how far a step goes.", gt=0, le=1000, live=True)
    rho: float = setting(0.9, help="Memory of the running squares.", ge=0, lt=1, live=True)
    eps: float = setting(1e-6, help="Keeps the division finite and sets the size of the first steps.", gt=0, le=1)

    def group(self) -> dict[str, Any]:
        """Return rho and epsilon."""
        return {"rho": self.rho, "eps": self.eps}


class _AdamLike(Optimizer):
    lr: float = setting(0.001, help="Learning rate: how far a step goes.", gt=0, le=1000, live=True)
    beta1: float = setting(0.9, help="Memory of the mean gradient: Adam's momentum.", ge=0, lt=1, live=True)
    beta2: float = setting(0.999, help="Memory of the mean squared gradient.", ge=0, lt=1, live=True)
    eps: float = setting(1e-8, help="Keeps the division finite.", gt=0, le=1)

    def group(self) -> dict[str, Any]:
        """Return the betas and epsilon."""
        return {"betas": (self.beta1, self.beta2), "eps": self.eps}


@OPTIMIZERS.add(
    "adam",
    title="Adam",
    summary="Momentum and a rate for each weight in one; works well in most situations.",
    formula="m ← β₁m + (1 − β₁)g;  v ← β₂v + (1 − β₂)g²;  θ ← θ − η m̂ / (√v̂ + ε)",
    source="Kingma & Ba 2014; seed lecture 1",
    implementation="torch.optim:Adam",
)
class Adam(_AdamLike):
    """Settings of Adam."""

    kind: Literal["adam"] = "adam"
    fused: ClassVar[bool] = True


@OPTIMIZERS.add(
    "adamw",
    title="AdamW",
    summary="Adam with weight decay kept apart from the gradient.",
    formula="θ ← θ − η (m̂ / (√v̂ + ε) + λθ)",
    source="Loshchilov & Hutter 2017",
    implementation="torch.optim:AdamW",
)
class AdamW(_AdamLike):
    """Settings of AdamW."""

    kind: Literal["adamw"] = "adamw"
    fused: ClassVar[bool] = True
    native_decay: ClassVar[bool] = True
    weight_decay: float = setting(
        0.01, help="Decoupled weight decay: each step also shrinks the weights by lr × this.", ge=0, le=10, live=True
    )


@OPTIMIZERS.add(
    "adamax",
    title="AdaMax",
    summary="Adam that divides by the largest recent gradient in place of the root mean square.",
    formula="u ← max(β₂u, |g|);  θ ← θ − η m̂ / u",
    source="Kingma & Ba 2014; seed lecture 2",
    implementation="torch.optim:Adamax",
)
class Adamax(_AdamLike):
    """Settings of AdaMax."""

    kind: Literal["adamax"] = "adamax"
    lr: float = setting(0.002, help="Learning rate: how far a step goes.", gt=0, le=1000, live=True)


@OPTIMIZERS.add(
    "nadam",
    title="NAdam",
    summary="Adam with Nesterov's look ahead.",
    formula="θ ← θ − η (β₁m̂ + (1 − β₁)ĝ) / (√v̂ + ε)",
    source="Dozat 2016",
    implementation="torch.optim:NAdam",
)
class NAdam(_AdamLike):
    """Settings of NAdam."""

    kind: Literal["nadam"] = "nadam"
    lr: float = setting(0.002, help="Learning rate: how far a step goes.", gt=0, le=1000, live=True)


@OPTIMIZERS.add(
    "radam",
    title="RAdam",
    summary="Adam that starts as momentum until its squares can be trusted: a built-in warm-up.",
    formula="θ ← θ − η rₜ m̂ / √v̂ once rₜ is defined",
    source="Liu et al. 2019",
    implementation="torch.optim:RAdam",
)
class RAdam(_AdamLike):
    """Settings of RAdam."""

    kind: Literal["radam"] = "radam"


@OPTIMIZERS.add(
    "muon",
    title="Muon",
    summary="Momentum whose matrices are made orthogonal, so all directions learn alike; AdamW moves the rest.",
    formula="θ ← θ − η NewtonSchulz(μv + g)",
    source="Jordan et al. 2024",
    implementation="torch.optim:Muon",
)
class Muon(Optimizer):
    """Settings of Muon."""

    kind: Literal["muon"] = "muon"
    matrices_only: ClassVar[bool] = True
    native_decay: ClassVar[bool] = True
    lr: float = setting(
        0.02, help="Learning rate of the matrices; the rest moves at a tenth of it.", gt=0, le=1000, live=True
    )
    momentum: float = setting(0.95, help="How much of the last step's speed is kept.", ge=0, lt=1, live=True)

    def group(self) -> dict[str, Any]:
        """Return the momentum."""
        return {"momentum": self.momentum}
