"""Concrete-ML answering for the digits MLP on ciphertexts: `concrete_mlp.py MLP.npz`.

Post-training quantization with approximate rounding, at the cheapest setting that keeps the float network's
accuracy: 4 bits, accumulators rounded to 4. (At 6 and 6 it takes nine times the work; at 3 and 3 it loses
points.) It makes its keys, then writes a line that says how it is set up, then for each line that it reads
one with the CPU seconds that its server took for the next image.
"""

import json
import os
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from concrete.ml.torch.compile import compile_torch_model

BITS = 4


def network(arrays):
    layers = [torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)]
    module = torch.nn.Sequential(*layers)
    module.load_state_dict({name: torch.from_numpy(arrays[name]) for name in module.state_dict()})
    return module.eval()


def accuracy(logits, labels):
    return float((np.asarray(logits).argmax(axis=1) == labels).mean())


def main():
    torch.set_num_threads(1)
    arrays = dict(np.load(sys.argv[1]))
    module = network(arrays)
    compiled = compile_torch_model(
        module,
        arrays["learn"],
        n_bits=BITS,
        rounding_threshold_bits={"n_bits": BITS, "method": "APPROXIMATE"},
    )
    circuit = compiled.fhe_circuit
    circuit.keygen()
    with torch.no_grad():
        truth = module(torch.from_numpy(arrays["held"]))
    about = {
        "bits": BITS,
        "float_accuracy": accuracy(truth, arrays["labels"]),
        "accuracy": accuracy(compiled.forward(arrays["held"], fhe="simulate"), arrays["labels"]),
        "key_bytes": circuit.size_of_bootstrap_keys + circuit.size_of_keyswitch_keys,
    }
    print(json.dumps(about), flush=True)
    for index, _ in enumerate(sys.stdin):
        image = arrays["held"][index : index + 1]
        request = circuit.encrypt(compiled.quantize_input(image))
        began = time.process_time()
        answer = circuit.run(request)
        taken = time.process_time() - began
        said = compiled.dequantize_output(circuit.decrypt(answer))
        print(json.dumps({"seconds": taken, "label": int(said.argmax())}), flush=True)


if __name__ == "__main__":
    main()
