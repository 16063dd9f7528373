"""Latency of predictions of one row: an estimator, its plain module, and an exported graph.

One network, trained once; each way is asked for the same row, in turn, so that what disturbs the
machine disturbs all. Reported are the median over the calls of a repeat, the smallest and the
largest over repeats, and the ratio to the plain module. ONNX Runtime is measured where ``onnx``,
``onnxscript`` and ``onnxruntime`` are installed.

``python benchmarks/serving.py [--calls 300] [--repeats 5]``
"""

import argparse
import importlib.util
import statistics
import tempfile
import time
import warnings

import numpy as np
import torch
from sklearn.datasets import make_classification
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhpo import TorchClassifier

PLAIN = "`model.module(x)` and softmax"


def ways(X, y, folder):
    """Return functions of one row, by name."""
    net = TorchClassifier(max_epochs=3, module__n_units=64, random_state=0, device="cpu").fit(X, y)
    pipeline = make_pipeline(StandardScaler(), net).fit(X, y)
    sklearns = MLPClassifier((64,), max_iter=3).fit(X, y)
    model = net.to_torch()
    rows = torch.export.Dim("rows")
    few = torch.from_numpy(X[:4])
    program = torch.export.export(model.predicting, (few,), dynamic_shapes=({0: rows},)).module()

    def plain(x):
        with torch.inference_mode():
            return torch.softmax(model.module(torch.from_numpy(x)), 1).numpy()

    def exported(x):
        with torch.inference_mode():
            return program(torch.from_numpy(x)).numpy()

    found = {
        PLAIN: plain,
        "`torch.export` of `model.predicting`": exported,
        "`net.predict_proba`": net.predict_proba,
        "`StandardScaler` and the network, `pipeline.predict_proba`": pipeline.predict_proba,
        "`MLPClassifier.predict_proba` of scikit-learn": sklearns.predict_proba,
    }
    if all(map(importlib.util.find_spec, ("onnx", "onnxscript", "onnxruntime"))):
        import onnxruntime

        net.to_onnx(f"{folder}/net.onnx", X[:4])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            f"{folder}/net.onnx", options, providers=["CPUExecutionProvider"]
        )
        found["ONNX Runtime, of `net.to_onnx`"] = lambda x: session.run(None, {"X": x})[0]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    X, y = make_classification(1000, 20, n_informative=10, n_classes=3, random_state=0)
    X = X.astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        found = ways(X, y, folder)
        medians = {name: [] for name in found}
        for _ in range(args.repeats):
            times = {name: [] for name in found}
            for i in range(args.calls):
                row = X[i : i + 1]
                for name, predict in found.items():
                    start = time.perf_counter()
                    predict(row)
                    times[name].append(time.perf_counter() - start)
            for name, of_calls in times.items():
                medians[name].append(1e6 * statistics.median(of_calls))
    base = statistics.median(medians[PLAIN])
    print("| one row by | microseconds (spread) | over the plain module |")
    print("| --- | ---: | ---: |")
    for name, values in sorted(medians.items(), key=lambda item: statistics.median(item[1])):
        middle = statistics.median(values)
        spread = f"{middle:.0f} ({min(values):.0f} to {max(values):.0f})"
        print(f"| {name} | {spread} | {middle / base:.1f} |")


if __name__ == "__main__":
    main()
