"""
Text: sequences of words of any length
======================================

Who says this? Speeches of Shakespeare's plays are lists of words, of 5 to some hundred of them, and
the network predicts the speaker. ``collate="pad"`` makes batches of them, in training, checks,
predictions and scores; ``forward`` asks for what it needs by the names of its arguments: the
recurrent network for ``lengths``, with which it packs the batch, the transformer for
``key_padding_mask``. Hyperband chooses between both, and their hyperparameters with them. Without
``../shared/data`` the speeches are made of a few words of a cook and of a sailor.
"""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from scipy.stats import loguniform
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from skhpo import HalvingHyperbandSearchCV, TorchClassifier

DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "tinyshakespeare.txt"
N_SPEAKERS = 4
N_WORDS = 2000
LONGEST = 120
WORDS = {
    "cook": "salt butter onion stir boil taste oven bread garlic knife slowly sweet pan",
    "sailor": "anchor wind rope sail deck storm harbour captain north slowly salt wave mast",
}


def speeches():
    """Return texts and their speakers."""
    if DATA.exists():
        parts = re.findall(r"(?m)^([A-Z][A-Za-z ]+):\n((?:.+\n)+)", DATA.read_text())
        counts = Counter(speaker for speaker, text in parts if len(text.split()) >= 5)
        chosen = dict(counts.most_common(N_SPEAKERS))
        parts = [(text, speaker) for speaker, text in parts if speaker in chosen]
        return zip(*(part for part in parts if len(part[0].split()) >= 5), strict=True)
    rng = np.random.default_rng(0)
    both = sorted({word for words in WORDS.values() for word in words.split()})
    speakers = rng.choice(list(WORDS), 400)
    lengths = rng.integers(5, 40, len(speakers))
    texts = [
        " ".join(rng.choice(WORDS[speaker].split() + both, length))
        for speaker, length in zip(speakers, lengths, strict=True)
    ]
    return texts, speakers


def as_numbers(texts):
    """Return each text as an array of the numbers of its words; rare words are 1, none is 0."""
    split = [re.findall(r"[a-z']+", text.lower())[:LONGEST] for text in texts]
    common = Counter(word for words in split for word in words).most_common(N_WORDS - 2)
    numbers = {word: i for i, (word, _) in enumerate(common, 2)}
    return [np.array([numbers.get(word, 1) for word in words]) for words in split]


class Recurrent(nn.Module):
    """A GRU over packed sequences, whose last state goes to the output."""

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
    """A layer of attention between words and their places, whose mean goes to the output."""

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


def main():
    texts, speakers = map(list, speeches())
    rows = as_numbers(texts)
    lengths = [len(row) for row in rows]
    names = ", ".join(sorted(set(speakers)))
    print(f"{len(rows)} speeches of {min(lengths)} to {max(lengths)} words by {names}")
    parts = train_test_split(rows, speakers, test_size=0.25, stratify=speakers, random_state=0)
    rows_train, rows_test, y_train, y_test = parts
    shared = {"lr": loguniform(1e-3, 3e-2), "module__width": [16, 32, 64]}
    spaces = [
        {"module": [Recurrent], "module__dropout": [0.0, 0.2, 0.5], **shared},
        {"module": [Transformer], "module__n_heads": [1, 2, 4], **shared},
    ]
    search = HalvingHyperbandSearchCV(
        TorchClassifier(Recurrent, collate="pad", random_state=0),
        spaces,
        max_resources=9,
        cv=3,
        random_state=0,
        n_jobs=2,
    )
    search.fit(rows_train, y_train)
    largest = max(Counter(y_test).values()) / len(y_test)
    print(f"best: {search.best_params_}")
    print(f"accuracy in the search {search.best_score_:.3f}")
    print(
        f"on new speeches {search.score(rows_test, y_test):.3f} (the largest class: {largest:.3f})"
    )
    results = search.cv_results_
    for module in (Recurrent, Transformer):
        mine = [value is module for value in results["param_module"]]
        best = results["mean_test_score"][mine].max()
        print(f"{module.__name__}: {sum(mine)} fits of candidates, best {best:.3f}")


if __name__ == "__main__":
    main()
