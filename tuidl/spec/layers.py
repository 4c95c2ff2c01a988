"""Activations and initialisations that every model can choose from."""

from tuidl.spec.settings import Entry, catalogue, named

_LAYERS = "tuidl.train.models.layers"

ACTIVATIONS = catalogue(
    Entry("linear", "Linear", "No bend at all: layers stacked on it collapse into a single one.", "x", "seed lecture 1", "torch.nn:Identity"),
    Entry("sigmoid", "Sigmoid", "Squeezes into 0..1; its flat ends make gradients vanish.", "1 / (1 + e⁻ˣ)", "seed lecture 1", "torch.nn:Sigmoid"),
    Entry("tanh", "Tanh", "Like the sigmoid but centred on zero, so it converges better.", "tanh(x)", "seed lecture 1", "torch.nn:Tanh"),
    Entry("relu", "ReLU", "Keeps what is positive and cuts the rest; the field's default.", "max(0, x)", "Nair & Hinton 2010; seed lecture 1", "torch.nn:ReLU"),
    Entry("leaky-relu", "Leaky ReLU", "A ReLU that lets a tenth of the negative side through, so no unit dies.", "max(0.1x, x)", "Maas et al. 2013; seed lecture 2", f"{_LAYERS}:leaky_relu"),
    Entry("prelu", "PReLU", "A leaky ReLU whose slope is learned.", "max(ax, x), a learned", "He et al. 2015; seed lecture 5", "torch.nn:PReLU"),
    Entry("rrelu", "RReLU", "A leaky ReLU whose slope is drawn at random while training.", "max(ax, x), a ~ U(1/8, 1/3)", "Xu et al. 2015; seed lecture 5", "torch.nn:RReLU"),
    Entry("elu", "ELU", "Bends smoothly to −1 on the negative side.", "x if x ≥ 0 else eˣ − 1", "Clevert et al. 2015; seed lecture 4", "torch.nn:ELU"),
    Entry("gelu", "GELU", "A smooth ReLU that weighs x by how likely a normal value lies below it.", "x Φ(x)", "Hendrycks & Gimpel 2016", "torch.nn:GELU"),
    Entry("maxout", "Maxout", "The larger of two learned linear maps: the unit learns its own bend.", "max(w₁ᵀx + b₁, w₂ᵀx + b₂)", "Goodfellow et al. 2013; seed lecture 2", f"{_LAYERS}:maxout"),
)  # fmt: skip

INITS = catalogue(
    Entry("default", "PyTorch default", "Uniform, scaled by the number of inputs.", "U(−1/√n_in, 1/√n_in)", "torch.nn", f"{_LAYERS}:init_default"),
    Entry("zeros", "Zeros", "Every unit starts the same and stays the same: try it once to see why not.", "0", "seed lecture 3", f"{_LAYERS}:init_zeros"),
    Entry("normal", "Normal", "Normal numbers with the standard deviation init_std.", "N(0, σ²)", "seed lecture 3", f"{_LAYERS}:init_normal"),
    Entry("xavier", "Xavier", "Keeps the variance of signals and gradients level for tanh and sigmoid.", "U(±√(6 / (n_in + n_out)))", "Glorot & Bengio 2010", f"{_LAYERS}:init_xavier"),
    Entry("kaiming", "Kaiming", "Xavier's idea for ReLU, which drops half of the signal.", "N(0, 2 / n_in)", "He et al. 2015", f"{_LAYERS}:init_kaiming"),
    Entry("orthogonal", "Orthogonal", "Starts as a rotation, so lengths survive many layers.", "QᵀQ = I", "Saxe et al. 2013", f"{_LAYERS}:init_orthogonal"),
)  # fmt: skip

ActivationName = named(ACTIVATIONS)
InitName = named(INITS)
