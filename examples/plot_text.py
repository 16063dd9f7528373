"""
Text: sequences of words of any length
======================================

Which part of scikit-learn is a paragraph about? Its own docstrings are the texts: lists of 5 to 80
words. ``collate="pad"`` makes batches of them, in training, checks, predictions and scores, and
paragraphs of about the same length share one. ``forward`` asks for what it needs by the names of
its arguments: the recurrent network for ``lengths``, with which it packs the batch, the transformer
for ``key_padding_mask``. Hyperband chooses between both, and their hyperparameters with them.
"""

import importlib
import inspect
import re
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.stats import loguniform
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from skhpo import HalvingHyperbandSearchCV, TorchClassifier

PARTS = "cluster", "linear_model", "metrics", "preprocessing"
N_WORDS = 1000
LONGEST = 80

texts, labels = [], []
for part in PARTS:
    module = importlib.import_module(f"sklearn.{part}")
    for name in module.__all__:
        for paragraph in inspect.getdoc(getattr(module, name)).split("\n\n"):
            words = re.findall(r"[a-z]+", paragraph.lower())
            if len(words) >= 5 and ">>>" not in paragraph:
                texts.append(words[:LONGEST])
                labels.append(part)

common = Counter(word for words in texts for word in words).most_common(N_WORDS - 2)
numbers = {word: i for i, (word, _) in enumerate(common, 2)}  # 1 is a rare word, 0 is padding
rows = [np.array([numbers.get(word, 1) for word in words]) for words in texts]
rows_train, rows_test, y_train, y_test = train_test_split(
    rows, labels, train_size=600, test_size=400, stratify=labels, random_state=0
)
print(f"{len(rows)} paragraphs, {np.median([len(row) for row in rows]):.0f} words in the median")

# %%
# Two modules. What is padded in a batch changes nothing for either of them.


class Recurrent(nn.Module):
    def __init__(self, out_features, width=32, dropout=0.2):
        super().__init__()
        self.table = nn.Embedding(N_WORDS, width, padding_idx=0)
        self.rnn = nn.GRU(width, width, batch_first=True)
        self.dropout, self.out = nn.Dropout(dropout), nn.Linear(width, out_features)

    def forward(self, x, lengths):
        x = self.dropout(self.table(x))
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.out(self.dropout(self.rnn(packed)[1][-1]))


class Transformer(nn.Module):
    def __init__(self, out_features, width=32, dropout=0.2, n_heads=2):
        super().__init__()
        self.table = nn.Embedding(N_WORDS, width, padding_idx=0)
        self.place = nn.Embedding(LONGEST, width)
        self.layer = nn.TransformerEncoderLayer(
            width, n_heads, 2 * width, dropout, batch_first=True, norm_first=True
        )
        self.out = nn.Linear(width, out_features)

    def forward(self, x, key_padding_mask):
        x = self.table(x) + self.place(torch.arange(x.shape[1], device=x.device))
        x = self.layer(x, src_key_padding_mask=key_padding_mask)
        is_word = ~key_padding_mask[:, :, None]
        return self.out((x * is_word).sum(1) / is_word.sum(1))


# %%
# A space for each module, with parameters that the other one lacks.

common_ranges = {"lr": loguniform(1e-3, 3e-2), "module__width": [16, 32, 64]}
spaces = [
    {"module": [Recurrent], "module__dropout": [0.0, 0.2, 0.5], **common_ranges},
    {"module": [Transformer], "module__n_heads": [1, 2, 4], **common_ranges},
]
search = HalvingHyperbandSearchCV(
    TorchClassifier(Recurrent, collate="pad", device="cpu"),
    spaces,
    max_resources=9,
    cv=2,
    random_state=0,
)
search.fit(rows_train, y_train)
print({name: getattr(value, "__name__", value) for name, value in search.best_params_.items()})
frequency = max(Counter(y_test).values()) / len(y_test)
print(f"accuracy on new paragraphs {search.score(rows_test, y_test):.3f}", end=" ")
print(f"(the most frequent part: {frequency:.3f})")

# %%
# Each point is a row of the table of results.

figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
results = search.cv_results_
for module, marker in ((Recurrent, "o"), (Transformer, "s")):
    mine = np.array([value is module for value in results["param_module"]])
    epochs = np.array(results["param_max_epochs"][mine], dtype=float)
    ax.plot(epochs, results["mean_test_score"][mine], marker, alpha=0.6, label=module.__name__)
ax.axhline(frequency, color="grey", linestyle=":", label="most frequent part")
ax.set(xlabel="epochs", ylabel="accuracy", xscale="log", xticks=[1, 3, 9], xticklabels=[1, 3, 9])
ax.minorticks_off()
ax.legend()
plt.show()
