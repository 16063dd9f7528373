"""Search callbacks: those that write down elsewhere what a search finds."""

from ._mlflow import MLflowLogger
from ._tensorboard import TensorBoardLogger
from ._wandb import WandbLogger

__all__ = ["MLflowLogger", "TensorBoardLogger", "WandbLogger"]
