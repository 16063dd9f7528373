"""What the layers of a self-tuning network read while a batch passes through them."""

from __future__ import annotations

__all__ = ["Context", "spread"]


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
        What `rows_of` says of layers for this response input, where that is known already.
    values : dict of str to Tensor of shape (n, 1) or (1, 1), or None
    regularises : bool
        Whether anything is dropped, as in training.
    tangent : bool
        Whether tensors carry a tangent, that is whether layers are linearised in their response.
    generator : torch.Generator or None
        Draws what is dropped.
    outputs : list of Tensor or None
        Recurrent layers append what they return here, for activation penalties.

    Examples
    --------
    A layer gives each example the dropout rate that the context says:

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
        """Be as between two batches: weights as they are, nothing regularised."""
        self.response = None
        self.rows = {}
        self.values = None
        self.regularises = False
        self.tangent = False
        self.generator = None
        self.outputs = None

    def value(self, name, n_rows, n_dims):
        """Return the value of a hyperparameter for a tensor.

        Parameters
        ----------
        name : str
        n_rows, n_dims : int
            Length of the tensor and number of its dimensions.

        Returns
        -------
        value : Tensor of shape (n_rows or 1, 1, ...)
        """
        value = spread(self.values[name], n_rows)
        return value if n_dims == 2 else value.view(-1, *[1] * (n_dims - 1))


def spread(per_example, n_rows):
    """Repeat what is given per example for a layer that sees several rows of each.

    Parameters
    ----------
    per_example : Tensor of shape (n, k)
    n_rows : int
        A multiple of n, where the rows of an example follow each other (as after
        ``x.flatten(0, 1)``).

    Returns
    -------
    Tensor of shape (n_rows or 1, k)

    Raises
    ------
    ValueError
        If `n_rows` is no multiple of n.
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
