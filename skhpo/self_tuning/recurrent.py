"""Layers for sequences whose weights respond to hyperparameters: embedding and LSTM."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ._context import repeat_rows
from ._modulated import RESPONSE_SCALE, Modulated
from ._tangent import Dual
from .layers import HyperLinear, drop

__all__ = ["HyperEmbedding", "HyperLSTM"]


class HyperEmbedding(Modulated, nn.Embedding):
    """Embedding whose weights respond, per dimension of the embedding.

    The arguments are those of `torch.nn.Embedding`. "dropout" drops whole words, the same ones in
    all examples of a batch.

    Examples
    --------
    The table of words depends on the response input of each example:

    >>> import torch
    >>> from skhpo.self_tuning import Context, HyperEmbedding
    >>> layer = HyperEmbedding(100, 4)
    >>> context = Context(["embedding.dropout"])
    >>> layer.attach(context, scale=1.0)
    HyperEmbedding(100, 4)
    >>> context.response = torch.tensor([[0.0], [2.0]])
    >>> words = torch.tensor([[7, 8, 9], [7, 8, 9]])
    >>> one, other = layer(words)
    >>> torch.equal(one, layer.weight[7:10]), torch.equal(one, other)
    (True, False)
    """

    bias = None
    transposed = True
    rates = {"dropout": None}
    per_batch = ("dropout",)

    def _map(self, x, weight, bias):
        return F.embedding(
            *(x, weight, self.padding_idx, self.max_norm, self.norm_type),
            self.scale_grad_by_freq,
        )

    def forward(self, x):
        """Look up integers of shape (n, ...)."""
        context = self.context
        if context is None:
            return self._map(x, self.weight, None)
        if context.response is None:
            y = self._map(x, self.weight, None)
        else:
            scales = repeat_rows(self.current_rows()[0], x.shape[0])
            scales = scales.view(-1, *[1] * (x.ndim - 1), scales.shape[1])
            if context.tangent:
                with torch.no_grad():
                    y = self._map(x, self.weight, None)
                y = Dual(y, scales * self._map(x, self.hyper_weight, None))
            else:
                y = self._map(x, self.weight, None)
                y = torch.addcmul(y, scales, self._map(x, self.hyper_weight, None))
        name = self.rates["dropout"]
        if name is None or not (context.regularises and self.training):
            return y
        words = self.weight.new_ones(len(self.weight), 1)
        keep = drop(words, context.values[name][:1], context.generator)
        return y * F.embedding(x, keep)


class _HiddenMap(HyperLinear):
    """The map from hidden state to gates; mask and response are the same for all steps."""

    masked = None
    kept_rows = None

    def begin(self, mask):
        self.masked = None if mask is None else (self.weight * mask, self.hyper_weight * mask)
        responds = self.context.response is not None
        self.kept_rows = super().current_rows() if responds else None

    def end(self):
        self.masked = self.kept_rows = None

    def current_rows(self):
        return self.kept_rows

    def _weights(self):
        return (self.weight, self.hyper_weight) if self.masked is None else self.masked


class HyperLSTM(Modulated, nn.LSTM):
    """LSTM whose maps from the input and from the hidden state to the gates respond.

    The arguments are those of `torch.nn.LSTM` without ``proj_size``; the initial state is zero
    where it is not given. An example has one response for all steps. "dropout" acts between
    layers; "weight_dropout" drops weights of the maps from the hidden state (DropConnect), the
    same ones in all examples of a batch. With a response it runs step by step, slower than torch's
    fused layer.

    Examples
    --------
    Without dropout and with a response of zero it is torch's layer:

    >>> import torch
    >>> from skhpo.self_tuning import Context, HyperLSTM
    >>> layer = HyperLSTM(3, 5, batch_first=True)
    >>> context = Context(["lstm.weight_dropout"])
    >>> layer.attach(context)
    HyperLSTM(3, 5, batch_first=True)
    >>> x = torch.ones(2, 7, 3)
    >>> context.response = torch.zeros(2, 1)
    >>> stepwise, _ = layer(x)
    >>> context.rest()
    >>> torch.allclose(stepwise, layer(x)[0], atol=1e-6)
    True
    """

    rates = {"dropout": None, "weight_dropout": None}
    per_batch = ("weight_dropout",)

    def attach(self, context, generator=None, scale=RESPONSE_SCALE):
        """Make both maps of each layer and direction respond; see `HyperLinear`."""
        if self.proj_size:
            raise ValueError(f"HyperLSTM needs proj_size=0, but got {self.proj_size}")
        self.context = context
        self.rates = dict(self.rates)
        self.maps = {}
        for name, weight in list(self.named_parameters(recurse=False)):
            if not name.startswith("weight_"):
                continue
            suffix = name.removeprefix("weight_")
            kind = HyperLinear if suffix.startswith("ih") else _HiddenMap
            part = kind.__new__(kind)
            nn.Module.__init__(part)
            part.weight = weight
            part.bias = getattr(self, f"bias_{suffix}", None)
            part.attach(context, generator, scale)
            # Not a child: the modules of the plain and of the converted network are paired.
            self.maps[suffix] = part
            for own in ("hyper_weight", "hyper_bias", "response"):
                if own in dict(part.named_parameters()):
                    self.register_parameter(f"{own}_{suffix}", getattr(part, own))
        return self

    def response_parameters(self):
        return [p for part in self.maps.values() for p in part.response_parameters()]

    def penalised(self):
        return list(self.maps.values())

    def folded(self, response, rows=None):
        return {
            f"{name}_{suffix}": parameter
            for suffix, part in self.maps.items()
            for name, parameter in part.folded(response, rows).items()
        }

    def forward(self, x, hx=None):
        """Run over a batch of sequences; see `torch.nn.LSTM`."""
        context = self.context
        if context is None or (context.response is None and not context.regularises):
            return nn.LSTM.forward(self, x, hx)
        lengths = None
        if isinstance(x, nn.utils.rnn.PackedSequence):
            x, lengths = pad_packed_sequence(x, batch_first=True)
        elif x.ndim != 3:
            raise TypeError("HyperLSTM needs a tensor of three dimensions, or packed sequences")
        elif not self.batch_first:
            x = x.transpose(0, 1)
        directions = ("", "_reverse") if self.bidirectional else ("",)
        states = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in directions:
                i = len(states)
                state = None if hx is None else (hx[0][i], hx[1][i])
                output, state = self._run(x, f"l{layer}{direction}", state, lengths)
                outputs.append(output)
                states.append(state)
            x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, 2)
            if layer < self.num_layers - 1:
                x = self._drop_between(x)
        if context.outputs is not None:
            context.outputs.append(x.linearised() if isinstance(x, Dual) else x)
        states = tuple(torch.stack(part) for part in zip(*states, strict=True))
        if lengths is not None:
            return pack_padded_sequence(x, lengths, True, enforce_sorted=False), states
        return (x if self.batch_first else x.transpose(0, 1)), states

    def _run(self, x, suffix, state, lengths=None):
        """Run one direction of one layer over x of shape (n, steps, n_in).

        Where there are lengths the state stays as it is outside of a sequence.
        """
        into, hidden = self.maps[f"ih_{suffix}"], self.maps[f"hh_{suffix}"]
        gates = into(x).unbind(1)
        n, like = x.shape[0], self.maps[f"ih_{suffix}"].weight
        if state is None:
            state = (like.new_zeros(n, self.hidden_size),) * 2
        h, c = state
        hidden.begin(self._weight_mask(hidden.weight))
        steps = range(len(gates))
        outputs = [None] * len(gates)
        for step in reversed(steps) if suffix.endswith("reverse") else steps:
            i, f, g, o = (gates[step] + hidden(h)).chunk(4, 1)
            new_c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            new_h = torch.sigmoid(o) * torch.tanh(new_c)
            if lengths is not None:
                inside = (step < lengths).to(like.device)[:, None]
                new_c, new_h = torch.where(inside, new_c, c), torch.where(inside, new_h, h)
            h, c = new_h, new_c
            outputs[step] = h
        hidden.end()
        return torch.stack(outputs, 1), (h, c)

    def _weight_mask(self, weight):
        context, name = self.context, self.rates["weight_dropout"]
        if name is None or not (context.regularises and self.training):
            return None
        rate = context.values[name][:1]
        return drop(torch.ones_like(weight), rate, context.generator)

    def _drop_between(self, x):
        context, name = self.context, self.rates["dropout"]
        if not (context.regularises and self.training):
            return x
        rate = self.dropout if name is None else context.value(name, x.shape[0], 3)
        return x if name is None and not rate else drop(x, rate, context.generator)
