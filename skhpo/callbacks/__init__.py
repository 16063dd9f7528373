"""Search callbacks: those that write down elsewhere what a search finds."""

from ._tensorboard import TensorBoardLogger

__all__ = ["TensorBoardLogger"]
