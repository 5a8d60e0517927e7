"""Six small networks of everyday kinds, by width, each with a task that a CPU does in moments."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from learning_dynamics.runtime import generator

__all__ = ["ARCHITECTURES", "Architecture", "token_loss"]

INPUTS, CLASSES, TOKENS, LENGTH, HEAD = 16, 4, 12, 8, 8


@dataclass(frozen=True)
class Architecture:
    """build: n -> network. loss(model, batch). batch(samples, seed): what the loss takes."""

    build: Callable[[int], nn.Module]
    loss: Callable[[nn.Module, tuple[Tensor, Tensor]], Tensor]
    batch: Callable[[int, int | str], tuple[Tensor, Tensor]]
    embeddings: tuple[str, ...] = ()


def squared_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Half the mean square of the error."""
    return 0.5 * (model(batch[0]) - batch[1]).square().mean()


def token_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy over the last dimension."""
    return F.cross_entropy(model(batch[0]).flatten(0, -2), batch[1].flatten())


def autoencoder(n: int) -> nn.Module:
    """16 -> n -> 4 sqrt(n) -> n -> 16: widths of unlike orders."""
    m = round(4 * n**0.5)
    return nn.Sequential(
        nn.Linear(INPUTS, n),
        nn.ReLU(),
        nn.Linear(n, m),
        nn.ReLU(),
        nn.Linear(m, n),
        nn.ReLU(),
        nn.Linear(n, INPUTS),
    )


def convolutional(n: int) -> nn.Module:
    """Three convolutions with n channels, batch normalisation, a linear readout."""
    return nn.Sequential(
        nn.Conv2d(1, n, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(n, n, 2, stride=2),
        nn.BatchNorm2d(n),
        nn.ReLU(),
        nn.Conv2d(n, n, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(n, CLASSES),
    )


class Residual(nn.Module):
    """x + W_2 gelu(W_1 norm(x)), hidden width 2 n."""

    def __init__(self, n: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.norm, self.up, self.down = norm(n), nn.Linear(n, 2 * n), nn.Linear(2 * n, n)

    def forward(self, x: Tensor) -> Tensor:
        """The block."""
        return x + self.down(F.gelu(self.up(self.norm(x))))


def residual(n: int) -> nn.Module:
    """Two residual blocks with LayerNorm."""
    return nn.Sequential(
        nn.Linear(INPUTS, n),
        Residual(n, nn.LayerNorm),
        Residual(n, nn.LayerNorm),
        nn.LayerNorm(n),
        nn.Linear(n, CLASSES),
    )


class Attention(nn.Module):
    """Causal attention written by hand; heads of width 8, and as many as fit."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(n, n, bias=False) for _ in range(3))
        self.out = nn.Linear(n, n)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, n) -> the same."""
        q, k, v = (
            layer(x).unflatten(-1, (-1, HEAD)).transpose(-3, -2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(-3, -2).flatten(-2))


class Transformer(nn.Module):
    """One block on tokens; `tied` shares the embedding with the readout."""

    def __init__(self, n: int, *, tied: bool) -> None:
        super().__init__()
        self.tokens = nn.Embedding(TOKENS, n)
        self.positions = nn.Parameter(torch.randn(LENGTH, n))
        norm = nn.RMSNorm if tied else nn.LayerNorm
        self.norm, self.last = norm(n), norm(n)
        self.attend = (
            Attention(n) if tied else nn.MultiheadAttention(n, n // HEAD, batch_first=True)
        )
        self.block = Residual(n, norm)
        self.dropout = nn.Dropout(0.1 if tied else 0.0)
        self.head = nn.Linear(n, TOKENS, bias=False)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length) of token numbers -> (batch, length, TOKENS)."""
        h = self.tokens(x) + self.positions
        normed = self.norm(h)
        if isinstance(self.attend, Attention):
            mixed = self.attend(normed)
        else:
            mixed = self.attend(normed, normed, normed, need_weights=False)[0]
        return self.head(self.last(self.block(h + self.dropout(mixed))))


def plain(n: int) -> nn.Module:
    """Four layers of equal widths, tanh, RMSNorm."""
    return nn.Sequential(
        nn.Linear(INPUTS, n),
        nn.Tanh(),
        nn.Linear(n, n),
        nn.RMSNorm(n),
        nn.Tanh(),
        nn.Linear(n, n),
        nn.Tanh(),
        nn.Linear(n, CLASSES),
    )


def _normal(*shape: int) -> Callable[[int, int | str], tuple[Tensor, Tensor]]:
    """Gaussian inputs; the target is a fixed quadratic map of them, or the inputs themselves."""

    def batch(samples: int, seed: int | str) -> tuple[Tensor, Tensor]:
        x = torch.randn(samples, *shape, generator=generator("inputs", seed))
        flat = x.flatten(1)
        a, b = (
            torch.randn(flat.shape[1], CLASSES, generator=generator("target", k)) for k in (0, 1)
        )
        return x, (flat @ a) * (flat @ b) / flat.shape[1]

    return batch


def _copied(samples: int, seed: int | str) -> tuple[Tensor, Tensor]:
    mix = torch.randn(4, INPUTS, generator=generator("mix"))
    x = torch.randn(samples, 4, generator=generator("inputs", seed)) @ mix / 2
    return x, x


def _words(samples: int, seed: int | str) -> tuple[Tensor, Tensor]:
    """Tokens; the answer is a permutation of each, or itself where an odd one stands before."""
    x = torch.randint(TOKENS, (samples, LENGTH), generator=generator("inputs", seed))
    odd = x.roll(1, 1) % 2 == 1
    return x, torch.where(odd, x, (5 * x + 3) % TOKENS)


ARCHITECTURES = {
    "autoencoder": Architecture(autoencoder, squared_loss, _copied),
    "convolutional": Architecture(convolutional, squared_loss, _normal(1, 4, 4)),
    "residual": Architecture(residual, squared_loss, _normal(INPUTS)),
    "attention": Architecture(
        lambda n: Transformer(n, tied=False), token_loss, _words, ("positions",)
    ),
    "plain": Architecture(plain, squared_loss, _normal(INPUTS)),
    "tied": Architecture(lambda n: Transformer(n, tied=True), token_loss, _words, ("positions",)),
}
