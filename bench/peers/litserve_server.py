"""LitServe serving an ONNX graph, as its own documentation sets it up: `GRAPH PORT BATCH`."""

import sys

import litserve
import numpy as np
import onnxruntime


class Model(litserve.LitAPI):
    def setup(self, device):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(sys.argv[1], options)

    def decode_request(self, request):
        return np.asarray(request["input"], dtype=np.float32)

    def predict(self, records):
        records = np.asarray(records, dtype=np.float32)
        outputs = self.session.run(None, {"input": records if records.ndim == 2 else records[None]})[0]
        return outputs if records.ndim == 2 else outputs[0]

    def encode_response(self, output):
        return {"output": np.asarray(output).tolist()}


if __name__ == "__main__":
    batch = int(sys.argv[3])
    model = Model(max_batch_size=batch, batch_timeout=0.001) if batch > 1 else Model()
    litserve.LitServer(model, accelerator="cpu", workers_per_device=1).run(
        port=int(sys.argv[2]), log_level="error", generate_client_file=False
    )
