"""What the layers of a self-tuning network read while a batch passes through them."""

from __future__ import annotations

__all__ = ["Context", "repeat_rows"]


class Context:
    """The response input and the hyperparameters' values of the current batch.

    Parameters
    ----------
    names : sequence of str
        The hyperparameters, in the order of the columns of the response input.

    Attributes
    ----------
    response : Tensor of shape (n, n_hyperparameters) or (1, n_hyperparameters), or None
        Response input, one row per example or one for all. None: weights do not respond.
    rows : dict of layer to (Tensor, Tensor or None)
        Results of `response_rows` for this response input, as far as they were computed.
    values : dict of str to Tensor of shape (n, 1) or (1, 1), or None
    regularises : bool
        Whether dropout is active, as in training.
    tangent : bool
        Whether layers are linearised in their response (tensors carry a tangent).
    generator : torch.Generator or None
        Draws the dropout masks.
    outputs : list of Tensor or None
        Recurrent layers append their outputs here, for activation penalties.

    Examples
    --------
    Each example has the dropout rate in the context:

    >>> import torch
    >>> from skhpo.self_tuning import Context, HyperDropout
    >>> context = Context(["drop.p"])
    >>> layer = HyperDropout().attach(context, "drop.p")
    >>> context.values = {"drop.p": torch.tensor([[0.0], [0.9]])}
    >>> context.regularises = True
    >>> (layer(torch.ones(2, 1000)) > 0).float().mean(1).round(decimals=1)
    tensor([1.0000, 0.1000])
    >>> context.rest()
    >>> layer(torch.ones(2, 3)).sum().item()
    6.0
    """

    def __init__(self, names):
        self.names = tuple(names)
        self.rest()

    def rest(self):
        """Reset to the state between two batches: no response, no regularisation."""
        self.response = None
        self.rows = {}
        self.values = None
        self.regularises = False
        self.tangent = False
        self.generator = None
        self.outputs = None

    def value(self, name, n_rows, n_dims):
        """Return a hyperparameter, of shape (n_rows or 1, 1, ...), for a tensor of `n_dims`."""
        value = repeat_rows(self.values[name], n_rows)
        return value if n_dims == 2 else value.view(-1, *[1] * (n_dims - 1))


def repeat_rows(per_example, n_rows):
    """Repeat values per example, of shape (n, k), for a layer that sees several rows of each.

    The rows of an example follow each other, as after ``x.flatten(0, 1)``. Returns a tensor of
    shape (n_rows or 1, k); raises ValueError if `n_rows` is no multiple of n.
    """
    n = per_example.shape[0]
    if n in (1, n_rows):
        return per_example
    if n_rows % n:
        raise ValueError(
            "a layer of a self-tuning network must see the examples of a batch along the first "
            f"dimension, but it got {n_rows} rows for {n} examples; keep the batch first"
        )
    return per_example.repeat_interleave(n_rows // n, 0)
