"""A network that does not depend on Metafleet: it imports only torch."""

import torch
from torch import Tensor, nn


class Net(nn.Module):
    """Two convolutions with batch norm, dropout, and an output for each class.

    Args:
        width: channels of the convolutions.
        dropout: fraction of the features dropped in training.
        colours: channels of the pictures.
        n_way: number of outputs; Metafleet fills it in.
    """

    def __init__(
        self, width: int = 16, dropout: float = 0.0, *, colours: int = 3, n_way: int
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(colours, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
            nn.Dropout(dropout),
        )
        self.fc = nn.Linear(9 * width, n_way)

    def forward(self, image: Tensor) -> Tensor:
        """Map pictures [n, colours, h, w] to logits [n, n_way]."""
        logits: Tensor = self.fc(self.body(image.to(torch.float32)))
        return logits
