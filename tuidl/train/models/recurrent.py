"""Character models: ids [B, T] to logits [B, T, V], with a state that is handed in and out."""

from collections.abc import Callable

from torch import Tensor, nn

from tuidl.spec.models import GRU, LSTM, RNN
from tuidl.train.models.layers import initialise

State = tuple[Tensor, ...]  # h [L, B, H], and for the LSTM c [L, B, H]

_CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class CharRNN(nn.Module):
    """Embedding, recurrent layers, and a linear map to one logit for each character (seed lecture 4)."""

    def __init__(self, settings: RNN | LSTM | GRU, characters: int, dropout: float) -> None:
        super().__init__()
        self.kind, self.layers, self.width = settings.kind, settings.layers, settings.width
        self.embedding = nn.Embedding(characters, settings.embedding)
        make = _CELLS[settings.kind]
        self.cell = make(settings.embedding, settings.width, settings.layers, batch_first=True)
        self.between = nn.Dropout(dropout)
        self.output = nn.Linear(settings.width, characters)
        initialise(self, settings.init, settings.init_std)

    def start(self, batch: int) -> State:
        """Return the state of an empty memory for `batch` texts."""
        zeros = self.output.weight.new_zeros(self.layers, batch, self.width)
        return (zeros, zeros.clone()) if self.kind == "lstm" else (zeros,)

    def forward(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Return logits [B, T, V] of each next character, and the state after the last one."""
        self.cell.dropout = self.between.p if self.layers > 1 else 0.0  # dropout is a live knob; torch reads it here
        hidden, after = self.cell(self.between(self.embedding(ids)), state if self.kind == "lstm" else state[0])
        return self.output(self.between(hidden)), after if self.kind == "lstm" else (after,)
