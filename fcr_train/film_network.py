"""The network that tells what a film shows, and where: findings and landmarks in one vector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from fcr_edge.looks import FINDINGS
from fcr_edge.pose import LANDMARKS
from fcr_train.checkpoint import rebuild
from fcr_train.config import FilmConfig, parse

if TYPE_CHECKING:
    from pathlib import Path

    from jaxtyping import Float32
    from torch import Tensor

    from fcr_train.checkpoint import Checkpoint

FILM_NETWORKS = ("film",)

HALVINGS = 4
"""How often the picture is halved; landmarks are voted for one halving earlier."""
LOG_ERROR = (-6.0, 1.0)
"""Range of the logarithm of a landmark's error [share of the side]."""
FIRST_ERROR = -2.0
"""The same at the start of the training."""


class Residual(nn.Module):
    """Two convolutions whose result is added to their input (He et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Float32[Tensor, "n c h w"]) -> Float32[Tensor, "n c h w"]:
        """Add the layers' output."""
        return functional.relu(x + self.layers(x))


class FilmNetwork(nn.Module):
    """Answer `fcr_edge.looks.VALUES` for a film in [-1, 1].

    Findings come from a linear layer over places: which way is up is where something is. For the
    landmarks every cell of a coarse grid says where each lies from it, how far off that may be and
    how much it has to say; the answers are their weighted means (after the voting of Gall &
    Lempitsky 2009). So a landmark may lie off the film, and between cells.
    """

    def __init__(self, config: FilmConfig) -> None:
        super().__init__()
        widths = [config.width * factor for factor in (1, 2, 4, 6)]
        self.stem = nn.Sequential(_halve(1, widths[0], 5), _halve(widths[0], widths[1]))
        self.middle = nn.Sequential(
            Residual(widths[1]),
            _halve(widths[1], widths[2]),
            *(Residual(widths[2]) for _ in range(config.blocks)),
        )
        self.deep = nn.Sequential(
            _halve(widths[2], widths[3]), *(Residual(widths[3]) for _ in range(config.blocks))
        )
        self.back = nn.Conv2d(widths[3], widths[2], 1)
        self.merge = Residual(widths[2])
        self.votes = nn.Conv2d(widths[2], 4 * len(LANDMARKS), 1)
        side = config.size // 2**HALVINGS
        self.squeeze = nn.Sequential(nn.Conv2d(widths[3], config.width, 1), nn.ReLU())
        self.find = nn.Linear(config.width * side**2, len(FINDINGS))
        self.register_buffer("grid", _centres(2 * side), persistent=False)
        self.grid: Tensor

    def forward(self, film: Float32[Tensor, "n 1 s s"]) -> Float32[Tensor, "n v"]:
        """Return findings, then place and error of each landmark."""
        middle = self.middle(self.stem(film))
        deep = self.deep(middle)
        findings = self.find(self.squeeze(deep).flatten(1)).float()
        up = functional.interpolate(self.back(deep), scale_factor=2, mode="nearest")
        votes = self.votes(self.merge(functional.relu(middle + up))).float()
        return torch.cat([findings, self._count(votes)], dim=1)

    def _count(self, votes: Float32[Tensor, "n v h w"]) -> Float32[Tensor, "n w"]:
        """Weigh the votes of all cells: column, row and error of each landmark."""
        cells = votes.reshape(votes.shape[0], len(LANDMARKS), 4, -1)
        weights = cells[:, :, 3].softmax(dim=-1)
        column = ((cells[:, :, 0] + self.grid[0]) * weights).sum(dim=-1)
        row = ((cells[:, :, 1] + self.grid[1]) * weights).sum(dim=-1)
        error = ((cells[:, :, 2] + FIRST_ERROR) * weights).sum(dim=-1).clamp(*LOG_ERROR)
        return torch.stack([column, row, error], dim=2).flatten(1)


def _halve(channels: int, width: int, kernel: int = 3) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, stride=2, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )


def _centres(side: int) -> Float32[Tensor, "2 cells"]:
    """Return column and row of the centres of a grid's cells [shares of the side]."""
    middle = (torch.arange(side) + 0.5) / side
    rows, columns = torch.meshgrid(middle, middle, indexing="ij")
    return torch.stack([columns.flatten(), rows.flatten()])


def load_film_network(path: Path) -> tuple[FilmNetwork, Checkpoint]:
    """Rebuild a trained network, ready to use. Raises DataError if the file is none."""

    def build(checkpoint: Checkpoint) -> FilmNetwork:
        return FilmNetwork(parse(FilmConfig, checkpoint.config))

    return rebuild(path, "film", FILM_NETWORKS, build)
