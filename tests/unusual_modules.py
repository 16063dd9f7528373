"""Modules whose graph does not say all that autograd and they do."""

import torch
from torch import nn
from torch.nn import functional as F


class Base(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.one, self.two = nn.Linear(in_features, 8), nn.Linear(8, 8)
        self.output = nn.Linear(8, out_features)
        self.prepare()

    def prepare(self):
        pass


class WithoutGradients(Base):
    def forward(self, x):
        with torch.no_grad():
            x = F.relu(self.one(x))
        return self.output(F.relu(self.two(x)))


class LowPrecision(Base):
    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return self.output(F.relu(self.two(F.relu(self.one(x)))))


class Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class Reversed(Base):
    def forward(self, x):
        return self.output(F.relu(Reversal.apply(self.one(x))))


class StochasticDepth(Base):
    def forward(self, x):
        x = F.relu(self.one(x))
        if self.training and torch.rand(1).item() < 0.5:
            return self.output(x)
        return self.output(x + F.relu(self.two(x)))


class RandomScale(Base):
    def forward(self, x):
        return self.output(F.relu(self.one(x)) * float(torch.rand(())))


class InPlaceBlock(Base):
    """The block changes what is added to its output."""

    def prepare(self):
        self.block = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(8, 8))

    def forward(self, x):
        x = self.one(x)
        return self.output(self.two(x + self.block(x)))


class InPlaceOfView(Base):
    def forward(self, x):
        x = self.one(x)
        pairs = F.relu(x.view(x.shape[0], 4, 2), inplace=True)
        return self.output(self.two(x + pairs.flatten(1)))


class GradientHook(Base):
    def prepare(self):
        self.one.weight.register_hook(lambda gradient: gradient * 0)

    def forward(self, x):
        return self.output(F.relu(self.one(x)))


class SharedNormalization(Base):
    def prepare(self):
        norm = nn.BatchNorm1d(8, affine=False)
        self.layers = nn.Sequential(self.one, norm, nn.ReLU(), self.two, norm, nn.ReLU())

    def forward(self, x):
        return self.output(self.layers(x))


class Unregistered(Base):
    def prepare(self):
        self.factors = [1.0]

    def forward(self, x):
        return self.output(F.relu(self.one(x)) * self.factors[0])


class LateGradientHook(Base):
    def prepare(self):
        self.one.weight.register_post_accumulate_grad_hook(self.clear)

    @staticmethod
    def clear(parameter):
        parameter.grad.zero_()

    def forward(self, x):
        return self.output(F.relu(self.one(x)))


MODULES = [
    *(WithoutGradients, LowPrecision, Reversed, StochasticDepth, RandomScale, InPlaceBlock),
    *(InPlaceOfView, GradientHook, LateGradientHook, SharedNormalization, Unregistered),
]
